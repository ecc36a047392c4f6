import { type FileOffset, fileOffset } from '../branded.js';
import { MapramError } from '../errors.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import { type DeviceSection, type StreamTail, splitTail } from '../stream/device-sections.js';
import { StreamLimit } from '../stream/format.js';
import { malformed } from '../stream/malformed.js';
import type { RamBlock } from '../stream/ram-block.js';
import { StreamCollector } from '../stream/stream-collector.js';
import type { StreamEvent } from '../stream/stream-event.js';
import { StreamParser } from '../stream/stream-parser.js';
import type { ByteSource } from './byte-source.js';
import type { Container } from './container.js';

/** What one pass over an image's stream found, page areas left out. */
export interface ImageScan {
  container: Container;
  configuration: StreamConfiguration;
  /** Bytes a page. */
  pageSize: number;
  ramSectionId: number;
  /** Each with its mapped-ram header. */
  blocks: RamBlock[];
  rounds: number;
  /** Whether RAM's END section, and with it the bitmaps, were written. */
  ramEnded: boolean;
  switchoverStart: boolean;
  earlySections: DeviceSection[];
  tail: StreamTail;
  /** Where in the file the tail starts; `undefined` when the file does not reach that far. */
  tailOffset: FileOffset | undefined;
  /** Why the pass ended early, if it did. */
  problems: string[];
}

/** Enough for the header before a page area; doubled with every chunk that follows without a jump. */
const CHUNK_BYTES = 4 * 1024;
const MAX_CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Reads the stream in `container`, jumping over page areas. A file that breaks off behind its first block's header
 * gives what was there, with the reason in `problems`.
 *
 * @throws MapramError `UNSUPPORTED` for a stream without mapped-ram, `FORMAT` for damage before any block is known
 */
export async function scanStream(source: ByteSource, container: Container): Promise<ImageScan> {
  const { offset } = container;
  const parser = new StreamParser({ name: source.name, origin: offset });
  const collector = new StreamCollector();
  const take = (events: readonly StreamEvent[]) => {
    for (const event of events) {
      assertMappedRam(event, source.name);
      collector.take(event);
    }
  };
  const problems: string[] = [];
  try {
    let length = CHUNK_BYTES;
    for (let position: number = offset; ; ) {
      const jump = Math.min(parser.skippable, Math.max(0, source.byteLength - position));
      parser.skipped(jump);
      position += jump;
      if (jump > 0) length = CHUNK_BYTES;
      const chunk = await source.read(fileOffset(position), length);
      if (chunk.byteLength === 0) break;
      length = Math.min(2 * length, MAX_CHUNK_BYTES);
      position += chunk.byteLength;
      take(parser.push(chunk));
      if (collector.tailPosition !== undefined) break;
    }
    if (collector.tailPosition === undefined) take(parser.end());
  } catch (error) {
    if (!(error instanceof MapramError) || error.code !== 'FORMAT' || parser.blocks.length === 0) throw error;
    problems.push(error.message);
  }
  const { configuration, blocks, pageSize, started } = parser;
  const { ramSectionId, rounds, switchoverStart, tailPosition, footers } = collector;
  if (configuration === undefined || ramSectionId === undefined) throw noMappedRam(source.name);
  const tailOffset = tailPosition === undefined ? undefined : fileOffset(offset + tailPosition);
  const bytes = tailOffset === undefined ? new Uint8Array(0) : await readTail(source, tailOffset, problems);
  const tail = await splitTail(bytes, { position: tailPosition ?? 0, started, footers });
  // QEMU writes the bitmaps into the END section, which background snapshots lack: no page counts as written.
  if (tailPosition !== undefined && !collector.ramEnded) {
    problems.push(
      'it is a background snapshot that QEMU wrote with mapped-ram, without telling which pages it wrote; save it with "mapram save --background"',
    );
  }
  return {
    container,
    configuration,
    pageSize,
    ramSectionId,
    blocks,
    rounds,
    ramEnded: collector.ramEnded,
    switchoverStart,
    earlySections: collector.described(tail),
    tail,
    tailOffset,
    problems,
  };
}

/** Everything that follows the RAM, as a whole. */
async function readTail(source: ByteSource, offset: FileOffset, problems: string[]): Promise<Uint8Array> {
  const length = source.byteLength - offset;
  if (length <= StreamLimit.DEVICE_BYTES) return await source.read(offset, length);
  const limit = `more than ${StreamLimit.DEVICE_BYTES} bytes follow the RAM`;
  problems.push(malformed(source.name, offset, limit).message);
  return new Uint8Array(0);
}

function assertMappedRam(event: StreamEvent, name: string): void {
  const missing =
    event.type === 'configuration'
      ? !event.configuration.capabilities.includes('mapped-ram')
      : // A stream without configuration.
        event.type === 'ram-blocks' && event.blocks.some((block) => block.mappedRam === undefined);
  if (missing) throw noMappedRam(name);
}

function noMappedRam(name: string): MapramError {
  return new MapramError(
    'UNSUPPORTED',
    `opening ${name}: it is a plain migration stream, saved without mapped-ram; turn it into a mapped-ram file with "mapram convert --to mapped-ram"`,
    { path: name },
  );
}
