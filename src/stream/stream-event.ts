import type { StreamConfiguration } from './configuration.js';
import type { SectionKind, StreamCommandName } from './format.js';
import type { RamBlock } from './ram-block.js';

/**
 * What a stream is read as, in stream order. Byte arrays are views on the chunks that were pushed wherever they lie
 * in one chunk: whoever reuses a chunk's memory must be done with the events of that chunk first.
 *
 * `position` counts from the first byte of the magic.
 */
export type StreamEvent =
  | { type: 'header'; version: number }
  | { type: 'configuration'; configuration: StreamConfiguration }
  | SectionEvent
  | SectionEndEvent
  | { type: 'ram-blocks'; totalBytes: number; blocks: RamBlock[] }
  | PagesEvent
  | ZeroPagesEvent
  | XbzrlePageEvent
  | CompressedPageEvent
  | { type: 'multifd-flush' }
  /** The EOS record of a RAM section. */
  | { type: 'ram-eos' }
  | CommandEvent
  | OpaqueSectionEvent
  | TailEvent;

/** A section opens. PART and END carry the name of the START with their section id. */
export interface SectionEvent {
  type: 'section';
  kind: SectionKind;
  sectionId: number;
  idstr: string;
  instanceId: number;
  versionId: number;
  /** Where the section's type byte is. */
  position: number;
}

export interface SectionEndEvent {
  type: 'section-end';
  sectionId: number;
  /** Whether the section had a footer; only machine types older than 2.4 have none. */
  footer: boolean;
}

/** Neighbouring pages of one block, each `pageSize` long. `data` fits `writev` at the place of `offset`. */
export interface PagesEvent {
  type: 'pages';
  block: RamBlock;
  /** Byte offset of the first page in the block. */
  offset: number;
  data: Uint8Array[];
  /** Where each of `data` is in the stream. */
  positions: number[];
}

/** Neighbouring zero pages of one block. */
export interface ZeroPagesEvent {
  type: 'zero-pages';
  block: RamBlock;
  offset: number;
  /** Bytes, a multiple of the page size. */
  length: number;
}

/** A page as its difference from the page's content so far, see `decodeXbzrle`. */
export interface XbzrlePageEvent {
  type: 'xbzrle-page';
  block: RamBlock;
  offset: number;
  encoded: Uint8Array;
  /** Where `encoded` is in the stream. */
  position: number;
}

/** A page as one zlib stream. */
export interface CompressedPageEvent {
  type: 'compressed-page';
  block: RamBlock;
  offset: number;
  compressed: Uint8Array;
  /** Where `compressed` is in the stream. */
  position: number;
}

export interface CommandEvent {
  type: 'command';
  value: number;
  /** `undefined` for a command that is not known. */
  name: StreamCommandName | undefined;
  data: Uint8Array;
  /** Of `packaged`: the stream that it wraps. */
  packaged?: Uint8Array;
  position: number;
}

/**
 * The data of a section that is neither RAM nor in the tail. Its end is not marked in the format: it was found by
 * searching for its footer, followed by something that can follow one.
 */
export interface OpaqueSectionEvent {
  type: 'opaque-section';
  kind: SectionKind;
  sectionId: number;
  idstr: string;
  data: Uint8Array;
  position: number;
}

/**
 * Bytes of the tail: everything behind RAM's END section, i.e. device sections, EOF and vmdescription, to be kept
 * as they are or given to `splitTail`.
 */
export interface TailEvent {
  type: 'tail';
  data: Uint8Array;
  position: number;
}
