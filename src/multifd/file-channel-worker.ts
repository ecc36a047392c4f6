/** Entry point of a channel's thread: is set up, waits for passes, takes chunks until none is left or it is told to stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { isError } from '../errors.js';
import { admit } from '../io/faults.js';
import { FileIoError } from '../io/file-io-error.js';
import { IoQueue } from '../io/linux-aio.js';
import { native } from '../io/native.js';
import type {
  ChannelFailure,
  ChannelReply,
  ChannelRequest,
  ChannelSetup,
  ChannelThreadData,
  PassRequest,
} from './channel-protocol.js';
import { ChannelReader } from './channel-reader.js';
import { ChannelState } from './channel-state.js';
import { ChannelWriter } from './channel-writer.js';
import { ChunkDigester } from './chunk-digester.js';
import { ChunkGrid } from './chunk-grid.js';
import { type ChunkHasher, createChunkHasher } from './chunk-hash.js';
import { CopyBuffer, RegionMemory } from './region-memory.js';

/** One channel of a set: what the thread works on until it is set up anew. */
class FileChannel {
  readonly #setup: ChannelSetup;
  readonly #state: ChannelState;
  readonly #grid: ChunkGrid;
  readonly #memories: RegionMemory[];
  readonly #digester: ChunkDigester | undefined;
  readonly #queue: IoQueue | undefined;
  readonly #writer: ChannelWriter;
  readonly #reader: ChannelReader;

  private constructor(setup: ChannelSetup, hasher: ChunkHasher | undefined) {
    const copies = new CopyBuffer(setup.chunkBytes);
    this.#setup = setup;
    this.#state = new ChannelState(setup.state, setup.channels);
    this.#grid = new ChunkGrid(setup.regions, setup.chunkBytes);
    this.#memories = setup.regions.map((region) => new RegionMemory(region, copies));
    this.#digester = hasher && new ChunkDigester(setup, this.#memories, this.#state, hasher);
    const queues = setup.access !== 'digest' && setup.direct && setup.ioDepth > 0;
    this.#queue = queues ? IoQueue.open(setup.ioDepth) : undefined;
    this.#writer = new ChannelWriter(setup, this.#memories, this.#state, this.#digester, this.#queue);
    this.#reader = new ChannelReader(setup, this.#memories, this.#state, this.#queue);
  }

  static open(setup: ChannelSetup): FileChannel {
    admit('worker');
    const digested = setup.regions.find(({ digests }) => digests !== undefined);
    const hasher = digested?.digests && createChunkHasher(digested.digests.algorithm, digested.pageSize);
    return new FileChannel(setup, hasher);
  }

  /** @throws FileIoError, and whatever else stops it; the other channels then stop too */
  run(request: PassRequest): void {
    const { channel } = this.#setup;
    this.#state.add(channel, 'busy', 1);
    try {
      if (request.kind === 'trim') this.#writer.trim();
      else this.#pass(request);
    } catch (error) {
      this.#state.stopped = true;
      this.#abandon();
      throw error;
    } finally {
      this.#state.add(channel, 'busy', -1);
    }
  }

  close(): void {
    this.#queue?.close();
  }

  #pass(request: Exclude<PassRequest, { kind: 'trim' }>): void {
    while (!this.#state.stopped) {
      const chunk = this.#grid.at(this.#state.takeChunk());
      if (chunk === undefined) break;
      let written = 0;
      if (request.kind === 'write') written = this.#writer.write(chunk, request);
      else if (request.kind === 'scan') this.#writer.scan(chunk, request);
      else if (request.kind === 'digest') this.#digester?.fromImage(chunk);
      else this.#reader.read(chunk, request);
      this.#memories[chunk.regionIndex]?.release(chunk.start, chunk.end);
      this.#state.spend(written);
    }
    this.#queue?.drain();
    if (request.kind === 'write') this.#writer.finish();
  }

  /** The end of a pass that has failed: nothing is under way any more. */
  #abandon(): void {
    try {
      this.#queue?.drain();
    } catch {
      // The pass has failed already.
    }
  }
}

function failureOf(error: unknown): ChannelFailure {
  const located = error instanceof FileIoError ? error : undefined;
  const { message, code } = (isError(located?.cause) ? located.cause : error) as NodeJS.ErrnoException;
  return {
    message,
    ...(code === undefined ? {} : { errno: code }),
    ...(located === undefined ? {} : { offset: located.offset, truncated: located.truncated }),
  };
}

function reply(message: ChannelReply): void {
  parentPort?.postMessage(message);
}

let channel: FileChannel | undefined;

/** What the kernel needs to forget a queue is time, which nobody waits for. */
function rest(): void {
  channel?.close();
  channel = undefined;
}

function carryOut(request: Exclude<ChannelRequest, { kind: 'rest' | 'close' }>): void {
  if (request.kind === 'setup') {
    rest();
    channel = FileChannel.open(request.setup);
  } else channel?.run(request);
}

// A thread that dies with writes under way would leave them to the process.
process.once('exit', rest);

parentPort?.on('message', (request: ChannelRequest) => {
  if (request.kind === 'rest' || request.kind === 'close') {
    rest();
    if (request.kind === 'close') parentPort?.close();
    return;
  }
  try {
    carryOut(request);
    reply({ kind: 'done' });
  } catch (error) {
    reply({ kind: 'failed', failure: failureOf(error) });
  }
});

native();
const { algorithm } = workerData as ChannelThreadData;
if (algorithm !== undefined) createChunkHasher(algorithm, 4096);
reply({ kind: 'done' });
