/** Entry point of a channel's thread: is set up, waits for passes, takes chunks until none is left or it is told to stop. */

import { type ChunkHasher, createChunkHasher } from '../../checksums/chunk-hash.js';
import { admit } from '../../io/faults.js';
import { IoQueue } from '../../io/file/linux-aio.js';
import { native } from '../../io/native.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import { assertWhole, BlockMemory, CopyBuffer } from './block-memory.js';
import type { ChannelRequest, ChannelSetup, PassRequest } from './channel-protocol.js';
import { ChannelReader } from './channel-reader.js';
import { ChannelState } from './channel-state.js';
import { ChannelWriter } from './channel-writer.js';
import { ChunkDigester } from './chunk-digester.js';
import { ChunkGrid } from './chunk-grid.js';
import { ChunkMemory } from './chunk-memory.js';

/** The thread's own, for one channel after the other: the kernel needs time to forget one. */
let queue: IoQueue | undefined;

function queueOf(depth: number): IoQueue | undefined {
  if (queue?.depth === depth) return queue;
  queue?.close();
  queue = IoQueue.open(depth);
  return queue;
}

// A thread that dies with writes under way would leave them to the process.
process.once('exit', () => queue?.close());

/** One channel of a set: what the thread works on until it is set up anew. */
class FileChannel {
  readonly #setup: ChannelSetup;
  readonly #state: ChannelState;
  readonly #grid: ChunkGrid;
  /** In the order of the blocks. */
  readonly #memories: (BlockMemory | undefined)[];
  readonly #digester: ChunkDigester | undefined;
  readonly #queue: IoQueue | undefined;
  readonly #writer: ChannelWriter;
  readonly #reader: ChannelReader;

  private constructor(setup: ChannelSetup, hasher: ChunkHasher | undefined) {
    const copies = new CopyBuffer(setup.chunkBytes);
    this.#setup = setup;
    this.#state = new ChannelState(setup.channels, setup.state);
    this.#grid = new ChunkGrid(setup.blocks, setup.chunkBytes);
    this.#memories = setup.blocks.map(
      ({ memory, ...block }) => memory && new BlockMemory({ ...block, memory }, copies),
    );
    const queues = setup.access !== 'digest' && setup.direct && setup.ioDepth > 0;
    this.#queue = queues ? queueOf(setup.ioDepth) : undefined;
    const contents = new ChunkMemory(setup.chunkBytes, this.#queue);
    this.#digester = hasher && new ChunkDigester(setup, contents, this.#state, hasher);
    this.#writer = new ChannelWriter(
      setup,
      this.#memories,
      contents,
      this.#state,
      this.#digester,
      this.#queue,
    );
    this.#reader = new ChannelReader(setup, this.#memories, this.#state, this.#queue);
  }

  static open(setup: ChannelSetup): FileChannel {
    admit('worker');
    const digested = setup.blocks.find(({ digests }) => digests !== undefined);
    const hasher = digested?.digests && createChunkHasher(digested.digests.algorithm, digested.pageSize);
    return new FileChannel(setup, hasher);
  }

  /** @throws FileIoError, and whatever else stops it; the other channels then stop too */
  run(request: PassRequest): void {
    const { channel } = this.#setup;
    this.#state.count(channel, 'busy', 1);
    try {
      if (request.kind === 'trim') this.#writer.trim();
      else this.#pass(request);
    } catch (error) {
      this.#state.stopped = true;
      this.#abandon();
      // The kernel says only that it could not move the pages.
      this.#assertMemoryWhole();
      throw error;
    } finally {
      this.#state.count(channel, 'busy', -1);
    }
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
      this.#memories[chunk.blockIndex]?.release(chunk.start, chunk.end);
      this.#state.spend(written);
    }
    this.#queue?.drain();
    if (request.kind === 'write') this.#writer.finish();
    // Beyond the end of the memory there was nothing but holes to be seen.
    this.#assertMemoryWhole();
  }

  #assertMemoryWhole(): void {
    for (const memory of this.#memories) if (memory) assertWhole(memory.block);
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

export function open(): ThreadService<ChannelRequest> {
  let channel: FileChannel | undefined;
  return {
    carryOut(request) {
      if (request.kind === 'setup') channel = FileChannel.open(request.setup);
      else if (request.kind === 'prepare') createChunkHasher(request.algorithm, 4096);
      else channel?.run(request);
    },
  };
}

native();
