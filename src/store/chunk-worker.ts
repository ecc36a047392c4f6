/** Entry point of a thread that encodes and decodes chunks: one job after the other until it is told to close. */

import { parentPort, workerData } from 'node:worker_threads';
import { defined } from '../defined.js';
import { FileIoError } from '../io/file/file-io-error.js';
import { readWhole, writeFully } from '../io/file/positional-io.js';
import {
  CHUNK_STATE,
  type ChunkReply,
  type ChunkRequest,
  type ChunkThreadData,
  type DecodedChunks,
  type DecodeJob,
  type EncodedChunks,
  type EncodeJob,
} from './chunk-protocol.js';
import { CHUNK_BYTES, chunkLength, NAME_BYTES } from './format.js';
import { FrameCodec } from './frame-codec.js';

const { keys } = workerData as ChunkThreadData;
const codec = new FrameCodec(keys);
const zeros = Buffer.alloc(CHUNK_BYTES);
/** Shared by all jobs: each is done before the next is taken. */
let readBuffer = Buffer.alloc(0);

function encode({ fd, fileBytes, chunks, parents }: EncodeJob): EncodedChunks {
  const states = new Uint8Array(chunks.length);
  const names: Uint8Array[] = [];
  const frames: Uint8Array[] = [];
  for (const [index, bytes] of readChunks(fd, fileBytes, chunks)) {
    if (bytes.equals(zeros.subarray(0, bytes.length))) continue;
    const name = codec.name('chunk', bytes);
    if (name.equals(parents.subarray(index * NAME_BYTES, (index + 1) * NAME_BYTES))) {
      states[index] = CHUNK_STATE.asParent;
      continue;
    }
    states[index] = CHUNK_STATE.stored;
    names.push(name);
    frames.push(codec.encode(name, bytes));
  }
  return {
    states,
    names: joined(names),
    lengths: frames.map(({ length }) => length),
    frames: joined(frames),
  };
}

/** Neighbours are read at once. The bytes are those of a buffer that the next ones replace. */
function* readChunks(
  fd: number,
  fileBytes: number,
  chunks: readonly number[],
): Generator<[index: number, bytes: Buffer]> {
  for (let first = 0; first < chunks.length; ) {
    let end = first + 1;
    while (chunks[end] === (chunks[end - 1] as number) + 1) end += 1;
    const start = (chunks[first] as number) * CHUNK_BYTES;
    const length = Math.min((end - first) * CHUNK_BYTES, fileBytes - start);
    if (readBuffer.length < length) readBuffer = Buffer.allocUnsafeSlow(length);
    readWhole(fd, readBuffer.subarray(0, length), start);
    for (let index = first; index < end; index++) {
      const at = (index - first) * CHUNK_BYTES;
      yield [index, readBuffer.subarray(at, Math.min(at + CHUNK_BYTES, length))];
    }
    first = end;
  }
}

/** In memory of its own, which can be handed over. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function decode({ fd, fileBytes, bytes, frames }: DecodeJob): DecodedChunks {
  for (const { chunk, name, start, length } of frames) {
    const expected = chunkLength(chunk, fileBytes);
    const found = codec.decode('chunk', name, bytes.subarray(start, start + length), expected);
    if (typeof found === 'string') return { damage: { chunk, what: found } };
    if (found.length !== expected)
      return { damage: { chunk, what: `it holds ${found.length} bytes, not ${expected}` } };
    if (fd >= 0) writeFully(fd, found, chunk * CHUNK_BYTES);
  }
  return {};
}

function answer(request: Exclude<ChunkRequest, { kind: 'close' }>): [ChunkReply, ArrayBuffer[]] {
  try {
    if (request.kind === 'decode') return [{ kind: 'done', result: decode(request) }, []];
    const result = encode(request);
    return [{ kind: 'done', result }, [result.names.buffer, result.frames.buffer] as ArrayBuffer[]];
  } catch (error) {
    return [failure(error), []];
  }
}

function failure(error: unknown): ChunkReply {
  const { message } = error as Error;
  const { code } = error as NodeJS.ErrnoException;
  return {
    kind: 'failed',
    message,
    ...defined({ code }),
    ...defined({ offset: error instanceof FileIoError ? error.offset : undefined }),
  };
}

parentPort?.on('message', (request: ChunkRequest) => {
  if (request.kind === 'close') {
    parentPort?.close();
    return;
  }
  const [reply, transfer] = answer(request);
  parentPort?.postMessage(reply, transfer);
});
