import type { PageSelection } from '../../channels/file/file-channels.js';
import type { PagePlace } from '../../channels/page-placer.js';
import type { SourceDevices, SourceSetup } from '../sources/migration-source.js';

/** What has gone out so far; may be asked at any time. */
export interface OutputCounters {
  /** Pages with contents, re-sent ones counted again. */
  normalPages: number;
  /** Pages found zero. */
  duplicatePages: number;
  /** Where pages with contents go through multifd channels in packets: all bytes of those. */
  packetBytes?: number;
  /** All of the main channel but pages. */
  streamBytes: number;
  /** Of `streamBytes`, those that QEMU counts as RAM: records, bitmaps and marks between passes. */
  recordBytes: number;
  channels: { id: number; bytes: number }[];
}

export interface OutputBlock {
  idstr: string;
  usedLength: number;
  pageCount: number;
}

/**
 * Where a migration goes, and in which form: the engine (`OutgoingMigration`) says what comes when.
 *
 *     open → writeStart → (transfer → writePart)… → pagesDone → writeDevices → close
 */
export interface MigrationOutput {
  /** For messages. */
  readonly name: string;
  readonly pageSize: number;
  /** Those of the source, once it is open. */
  readonly blocks: readonly OutputBlock[];
  /** Bytes a second that pages may take; 0 for as many as there can be. */
  maxBandwidth: number;
  /** Opens the channels. Blocks with `memory` are those whose pages `transfer` moves. */
  open(setup: SourceSetup, signal: AbortSignal): Promise<void>;
  /** Where a source that brings pages itself places them; only where the output has places. */
  placement?(): PagePlace;
  /** Everything before the first page. */
  writeStart(): Promise<void>;
  /** A pass over the blocks with memory, in their order: the pages that are named, or all. */
  transfer(ranges?: readonly PageSelection[]): Promise<void>;
  /** The end of a pass, also of one in which the source placed the pages. */
  writePart(): Promise<void>;
  /** No `transfer` comes any more: what is to be done then may go on behind the device state. */
  pagesDone?(): void;
  /** Everything behind the last page; returns when all of it has gone out. */
  writeDevices(devices: SourceDevices, onPhase: (phase: string) => void): Promise<void>;
  counters(): OutputCounters;
  /** Stops what is under way, which then rejects. */
  abort(): void;
  /** Gives everything back. Never throws. */
  close(): Promise<void>;
}
