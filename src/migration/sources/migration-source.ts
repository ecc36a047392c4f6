/**
 * Where a migration's memory and device state come from. The engine (`OutgoingMigration`) drives one of these into a
 * mapped-ram file:
 *
 *   builtin guest        RAM mapped, dirty log: live passes, then a last one while stopped; or a copy of its RAM, in the background
 *   QEMU, shared RAM     RAM mapped, no dirty log: copied while stopped; device state from QEMU's own stream
 *   QEMU, stream         pages come by QEMU's stream and are placed by its receivers
 */
import type { PagePlace } from '../../channels/page-placer.js';
import type { MemoryFile } from '../../io/memory/memory-map.js';
import type { MigrationParameters } from '../../options/migration-parameters.js';
import type { StreamDevices, StreamStart } from '../../stream/stream-frame.js';

/** A RAM block of the source. */
export interface SourceBlock {
  idstr: string;
  /** Bytes, a multiple of the page size. */
  usedLength: number;
  /** The file that backs it, when mapram may map it and copy from there. */
  memory?: MemoryFile;
}

/** What the migration stream begins with. */
export interface SourceSetup extends StreamStart {
  blocks: readonly SourceBlock[];
}

export interface SourceDevices extends StreamDevices {
  /**
   * Sections of other devices than RAM that came after the list of RAM blocks and before RAM's END, verbatim: parts of
   * devices that are saved in rounds (ppc64, s390x), and devices that must be loaded before RAM (virtio-mem).
   */
  amongRam?: Uint8Array;
}

/** Pages that the source placed itself. */
export interface PlacedPages {
  normalPages: number;
  duplicatePages: number;
  bytes: number;
  /** Of `bytes`, those that came while the guest ran. */
  bytesBeforeStop: number;
  /** Of a source with multifd channels: what came through each. */
  channels: { id: number; bytes: number }[];
}

export interface DirtyLog {
  /** Begins logging: everything counts as clean now. */
  start(): void;
  /** Fetches and clears the log of one block into `into` (LSB first, OR'ed). Returns the number of dirty pages. */
  sync(block: number, into: Uint8Array): number;
  stop(): void;
}

export interface OutgoingSource {
  /** Starts what takes a while and does not touch the VM. Then there must be a `dispose`. */
  prepare?(): void;
  /** Connects and reads up to the RAM block list. */
  setup(signal: AbortSignal): Promise<SourceSetup>;
  /** Told once the file is laid out; a source that brings pages itself places them there from now on. */
  place?(where: PagePlace): void;
  /** Present when the guest may run while its mapped memory is copied. */
  readonly dirtyLog?: DirtyLog;
  /** Whether the guest runs at this moment; only where it does so while its mapped memory is copied. */
  readonly guestRuns?: boolean;
  /** Whether the guest goes on behind `stop`: what is saved is a picture of that moment, and there are no passes. */
  readonly background?: boolean;
  /**
   * Stops the guest and waits until all pages that the source places itself, bar the last few dirty ones, are placed.
   * Returns the indexes of the blocks whose memory the engine must copy.
   */
  stop(signal: AbortSignal): Promise<number[]>;
  /** The device state of the stopped guest. All pages are placed when it resolves. */
  devices(signal: AbortSignal): Promise<SourceDevices>;
  /** Told of parameters that the user changes on the way. */
  changeParameters?(parameters: MigrationParameters): Promise<void>;
  /** How long the guest has stood still so far, in ms, where the source knows better than who asked it to stop. */
  downtimeMs?(): number;
  /** Counters of the pages that the source placed itself. */
  placed?(): PlacedPages;
  /** Gives up: the guest goes on as it was before. Never throws. */
  cancel(): Promise<void>;
  /** Lets a guest that ran before run again. */
  resume(): Promise<void>;
  /** Releases sockets, workers and descriptors; may be called again. Never throws. */
  dispose(): Promise<void>;
}
