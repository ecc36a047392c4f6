import type { PageRun } from '../mapped-ram/bitmap.js';
import type { ByteSource } from '../mapped-ram/byte-source.js';
import type { Container } from '../mapped-ram/container.js';
import type { GuestMap } from '../mapped-ram/guest-map.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import type { DeviceSection, StreamTail } from '../stream/device-sections.js';

/** A RAM block of a saved VM, in whatever form it was saved. */
export interface SavedBlock {
  readonly idstr: string;
  /** Bytes, a multiple of `pageSize`. */
  readonly usedLength: number;
  readonly pageSize: number;
  readonly pageCount: number;
  /** As the file gives it; `SavedVm.guestMap` knows more. */
  readonly guestAddress?: number;
}

/**
 * A saved VM opened for looking at: a mapped-ram file (`MappedRamImage`) or a plain migration stream
 * (`StreamImage`), bare or in a libvirt image.
 *
 * What a damaged or unfinished file still has is there; what is wrong with it is in `problems`.
 */
export interface SavedVm<Block extends SavedBlock = SavedBlock> extends AsyncDisposable {
  readonly form: 'mapped-ram' | 'stream';
  readonly path: string;
  /** The bytes of the file, decompressed where they were compressed. */
  readonly source: ByteSource;
  readonly container: Container;
  /** Of very old machine types the name is empty: their streams do not tell it. */
  readonly configuration: StreamConfiguration;
  readonly pageSize: number;
  readonly blocks: readonly Block[];
  readonly guestMap: GuestMap;
  /** Whether the stream is there up to its end, i.e. the save finished. */
  readonly complete: boolean;
  /** PART sections of RAM: rounds over memory. */
  readonly rounds: number;
  /** Section id of RAM in this stream; 0 where it was not reached. */
  readonly ramSectionId: number;
  /** Whether the SWITCHOVER_START command is in the stream, as machine types from 10.0 on have it. */
  readonly switchoverStart: boolean;
  /** Sections of devices that must be set up before RAM is loaded, in stream format. */
  readonly earlySectionBytes: Uint8Array;
  /** The device sections, those before RAM first. */
  readonly devices: readonly DeviceSection[];
  readonly tail: StreamTail;
  /** What mapram wrote about the file; `undefined` in files of others. */
  readonly manifest: unknown;
  /** In people's words. */
  readonly problems: readonly string[];

  block(idstr: string): Block | undefined;
  /** Runs of pages that the file holds contents of, at most `maximum` pages long; all others are zero. */
  runs(block: Block, maximum?: number): Generator<PageRun, void, undefined>;
  /** The contents of `count` pages from page `first` on. @throws MapramError `FORMAT` where the file is damaged */
  readPages(block: Block, first: number, count: number): Promise<Uint8Array>;
  /** Guest-physical memory. @throws RangeError where no RAM is known to lie */
  read(address: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}
