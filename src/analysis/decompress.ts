import { mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { fileOffset } from '../branded.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { createZstdDecompressor } from '../io/zstd-stream.js';
import { type ByteSource, FileSource } from '../mapped-ram/byte-source.js';
import type { OperationOptions } from '../progress.js';

export type Compression = 'gzip' | 'bzip2' | 'xz' | 'lzop' | 'zstd';

/** The programs that undo what Node cannot. */
const PROGRAMS: Readonly<Record<Compression, string>> = {
  gzip: 'gzip',
  bzip2: 'bzip2',
  xz: 'xz',
  lzop: 'lzop',
  zstd: 'zstd',
};

const SIGNATURES: readonly [Compression, ...number[]][] = [
  ['gzip', 0x1f, 0x8b],
  ['bzip2', 0x42, 0x5a, 0x68],
  ['xz', 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
  ['zstd', 0x28, 0xb5, 0x2f, 0xfd],
  ['lzop', 0x89, 0x4c, 0x5a, 0x4f],
];

/** How a file that begins with `head` is compressed, if it is. */
export function compressionOf(head: Uint8Array): Compression | undefined {
  return SIGNATURES.find(([, ...bytes]) => bytes.every((byte, index) => head[index] === byte))?.[0];
}

export interface DecompressOptions extends OperationOptions {
  /** Given the first bytes, as many as there are up to 64 KiB, before the others are decompressed; what it throws ends it. */
  readonly checkHead?: ((head: Uint8Array) => Promise<void>) | undefined;
}

/** A decompressed copy that is gone when it is disposed of, or the process ends. */
export interface DecompressedCopy extends AsyncDisposable {
  readonly source: ByteSource;
  /** What was wrong with the compressed bytes; the copy then ends early. */
  readonly problem?: string;
}

const READ_BYTES = 2 ** 20;
const HOLE_BYTES = 4096;
const HEAD_BYTES = 64 * 1024;

/**
 * How many times its own size a compressed file may have inside, and how many bytes in any case. Zero pages are not in a
 * stream, so what is left of a guest's memory rarely shrinks to a tenth; files made to fill a disk shrink to a thousandth.
 */
const MAX_RATIO = 100;
const MIN_LIMIT_BYTES = 256 * 2 ** 20;

/**
 * Decompresses `source` from `offset` on into a nameless file in the directory for temporary files, since any page of it
 * may be asked for. Zeros become holes.
 *
 * @throws MapramError `UNSUPPORTED` naming the command that decompresses it where this Node cannot, or where it would grow more
 *   than a hundredfold; what `checkHead` throws; `IO`, `CANCELLED`
 */
export async function decompress(
  source: ByteSource,
  offset: number,
  compression: Compression,
  options: DecompressOptions = {},
): Promise<DecompressedCopy> {
  const transform = decompressor(compression);
  if (transform === undefined) throw unsupported(source.name, offset, compression);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'mapram-decompressed-'));
  const handle = await open(path.join(folder, 'copy'), 'wx+', 0o600).finally(() =>
    // The open file stays readable without a name, and nothing is left behind whatever happens.
    rm(folder, { recursive: true }),
  );
  try {
    let length = 0;
    let problem: string | undefined;
    const limit = Math.max(MIN_LIMIT_BYTES, MAX_RATIO * (source.byteLength - offset));
    // The pipeline ends with an error of its own where what takes its bytes gives up.
    let refusal: unknown;
    const refuse = (error: unknown): never => {
      refusal = error;
      throw error;
    };
    const checkHead = async (head: Uint8Array): Promise<void> => {
      await options.checkHead?.(head).catch((error: unknown) => refuse(error));
    };
    const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of withHeadChecked(chunks, checkHead)) {
        if (length + chunk.byteLength > limit) refuse(tooLarge(source.name, offset, compression));
        for (const [start, end] of nonZero(chunk))
          await handle.write(chunk, start, end - start, length + start);
        length += chunk.byteLength;
      }
    };
    const { signal } = options;
    await pipeline(
      Readable.from(chunksOf(source, offset, options), { objectMode: false }),
      transform,
      write,
      ...(signal === undefined ? [] : [{ signal }]),
    ).catch((error: NodeJS.ErrnoException) => {
      if (refusal !== undefined) throw refusal;
      if (!isDataError(error)) throw error;
      problem = `its compressed stream is damaged or cut short: ${errorReason(error)}`;
    });
    await handle.truncate(length);
    return {
      source: await FileSource.of(handle, source.name),
      ...defined({ problem }),
      [Symbol.asyncDispose]: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    options.signal?.throwIfAborted();
    if (error instanceof MapramError) throw error;
    throw new MapramError(
      'IO',
      `decompressing ${source.name} into ${os.tmpdir()}: ${errorReason(error)}; set TMPDIR to a directory with room for it`,
      { path: source.name, cause: error },
    );
  }
}

function decompressor(compression: Compression): Transform | undefined {
  if (compression === 'gzip') return createGunzip();
  return compression === 'zstd' ? createZstdDecompressor() : undefined;
}

function isDataError({ code }: NodeJS.ErrnoException): boolean {
  return code !== undefined && /^(Z_|ZSTD_)/.test(code);
}

async function* chunksOf(
  source: ByteSource,
  offset: number,
  { onProgress }: DecompressOptions,
): AsyncGenerator<Uint8Array> {
  const started = performance.now();
  for (let position = offset; ; ) {
    const chunk = await source.read(fileOffset(position), READ_BYTES);
    if (chunk.byteLength === 0) return;
    yield chunk;
    position += chunk.byteLength;
    const bytes = position - offset;
    const rate = Math.round((bytes / Math.max(1, performance.now() - started)) * 1000);
    onProgress?.({ phase: 'decompressing', bytes, totalBytes: source.byteLength - offset, pages: 0, rate });
  }
}

/** The parts of a chunk that are not zero, in steps of what a hole can be. */
function* nonZero(chunk: Buffer): Generator<[start: number, end: number]> {
  const zeros = Buffer.alloc(HOLE_BYTES);
  let start: number | undefined;
  for (let at = 0; at < chunk.byteLength; at += HOLE_BYTES) {
    const end = Math.min(at + HOLE_BYTES, chunk.byteLength);
    if (chunk.compare(zeros, 0, end - at, at, end) === 0) {
      if (start !== undefined) yield [start, at];
      start = undefined;
    } else start ??= at;
  }
  if (start !== undefined) yield [start, chunk.byteLength];
}

/** The same chunks, held back until there are enough for `checkHead`. */
async function* withHeadChecked(
  chunks: AsyncIterable<Buffer>,
  checkHead: (head: Uint8Array) => Promise<void>,
): AsyncGenerator<Buffer> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of chunks) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.byteLength < HEAD_BYTES) continue;
    await checkHead(head);
    yield head;
    head = undefined;
  }
  if (head === undefined) return;
  await checkHead(head);
  yield head;
}

function commandFor(name: string, offset: number, compression: Compression): string {
  const program = PROGRAMS[compression];
  return offset === 0 ? `${program} -dc ${name}` : `tail -c +${offset + 1} ${name} | ${program} -dc`;
}

function tooLarge(name: string, offset: number, compression: Compression): MapramError {
  return new MapramError(
    'UNSUPPORTED',
    `opening ${name}: decompressed it is more than ${MAX_RATIO} times as large, which no saved VM is known to be; if you trust it, decompress it first with "${commandFor(name, offset, compression)} > FILE"`,
    { path: name },
  );
}

function unsupported(name: string, offset: number, compression: Compression): MapramError {
  const command = commandFor(name, offset, compression);
  const newer = compression === 'zstd' ? ', or install libzstd or Node 22.15 or later' : '';
  return new MapramError(
    'UNSUPPORTED',
    `opening ${name}: it is compressed with ${compression}, which cannot be read here; decompress it first with "${command} > FILE"${newer}`,
    { path: name },
  );
}
