/** Entry point of a channel's thread: waits for passes, takes chunks until none is left or it is told to stop. */
import { parentPort, workerData } from 'node:worker_threads';
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
import { createChunkHasher } from './chunk-hash.js';
import { CopyBuffer, RegionMemory } from './region-memory.js';

const setup = workerData as ChannelSetup;
const state = new ChannelState(setup.state, setup.channels);
const grid = new ChunkGrid(setup.regions, setup.chunkBytes);
const copies = new CopyBuffer(setup.chunkBytes);
const memories = setup.regions.map((region) => new RegionMemory(region, copies));
const algorithm = setup.regions.find(({ digests }) => digests !== undefined)?.digests?.algorithm;
const digester = algorithm && new ChunkDigester(setup, memories, state, await createChunkHasher(algorithm));
const writer = new ChannelWriter(setup, memories, state, digester);
const reader = new ChannelReader(setup, memories, state);

function runPass(request: PassRequest): void {
  state.add(setup.channel, 'busy', 1);
  try {
    while (!state.stopped) {
      const chunk = grid.at(state.takeChunk());
      if (chunk === undefined) break;
      let written = 0;
      if (request.kind === 'write') written = writer.write(chunk, request);
      else if (request.kind === 'scan') writer.scan(chunk, request);
      else if (request.kind === 'digest') digester?.fromImage(chunk);
      else reader.read(chunk, request);
      memories[chunk.regionIndex]?.release(chunk.start, chunk.end);
      state.bandwidth.spend(written);
    }
  } finally {
    state.add(setup.channel, 'busy', -1);
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

parentPort?.on('message', (request: ChannelRequest) => {
  if (request.kind === 'close') {
    parentPort?.close();
    return;
  }
  try {
    runPass(request);
    reply({ kind: 'done' });
  } catch (error) {
    state.stopped = true;
    reply({ kind: 'failed', failure: failureOf(error) });
  }
});

admit('worker');
native();
reply({ kind: 'ready' });
