/** Entry point of a channel's thread: is set up, waits for passes, takes chunks until none is left or it is told to stop. */
import { parentPort } from 'node:worker_threads';
import { admit } from '../io/faults.js';
import { native } from '../io/native.js';
import { ChannelIoError } from './channel-io-error.js';
import type {
  ChannelFailure,
  ChannelReply,
  ChannelRequest,
  ChannelSetup,
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
  readonly #writer: ChannelWriter;
  readonly #reader: ChannelReader;

  private constructor(setup: ChannelSetup, hasher: ChunkHasher | undefined) {
    const copies = new CopyBuffer(setup.chunkBytes);
    this.#setup = setup;
    this.#state = new ChannelState(setup.state, setup.channels);
    this.#grid = new ChunkGrid(setup.regions, setup.chunkBytes);
    this.#memories = setup.regions.map((region) => new RegionMemory(region, copies));
    this.#digester = hasher && new ChunkDigester(setup, this.#memories, this.#state, hasher);
    this.#writer = new ChannelWriter(setup, this.#memories, this.#state, this.#digester);
    this.#reader = new ChannelReader(setup, this.#memories, this.#state);
  }

  static async open(setup: ChannelSetup): Promise<FileChannel> {
    admit('worker');
    const digested = setup.regions.find(({ digests }) => digests !== undefined);
    const hasher =
      digested?.digests && (await createChunkHasher(digested.digests.algorithm, digested.pageSize));
    return new FileChannel(setup, hasher);
  }

  /** @throws ChannelIoError, and whatever else stops it; the other channels then stop too */
  run(request: PassRequest): void {
    const { channel } = this.#setup;
    this.#state.add(channel, 'busy', 1);
    try {
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
      if (request.kind === 'write') this.#writer.finish();
    } catch (error) {
      this.#state.stopped = true;
      throw error;
    } finally {
      this.#state.add(channel, 'busy', -1);
    }
  }
}

function failureOf(error: unknown): ChannelFailure {
  const located = error instanceof ChannelIoError ? error : undefined;
  const { message, code } = (
    located?.cause instanceof Error ? located.cause : error
  ) as NodeJS.ErrnoException;
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

async function carryOut(request: Exclude<ChannelRequest, { kind: 'close' }>): Promise<void> {
  if (request.kind === 'setup') channel = await FileChannel.open(request.setup);
  else channel?.run(request);
}

parentPort?.on('message', (request: ChannelRequest) => {
  if (request.kind === 'close') {
    parentPort?.close();
    return;
  }
  carryOut(request).then(
    () => reply({ kind: 'done' }),
    (error: unknown) => reply({ kind: 'failed', failure: failureOf(error) }),
  );
});

native();
reply({ kind: 'done' });
