/**
 * The thread of one connection of a migration stream. Which one it is shows in the first four bytes: the main channel
 * begins with the stream's magic, a multifd channel with an initial packet. See stream-receiver.ts.
 */
import { constants } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { errorReason, MapramError } from '../errors.js';
import { O_DIRECT } from '../io/direct-io-support.js';
import { closeFile, openFile } from '../io/open-file.js';
import { arrivalDigester } from '../multifd/arrival-digester.js';
import { readFull, SocketInput } from '../multifd/channel-input.js';
import { ConnectionState } from '../multifd/connection-state.js';
import { PagePlacer } from '../multifd/page-placer.js';
import { receiveSocketChannel } from '../multifd/socket-channel-receiver.js';
import { SyncBarrier } from '../multifd/sync-barrier.js';
import {
  decodeMultifdInitialPacket,
  MULTIFD_INITIAL_PACKET_BYTES,
  MULTIFD_MAGIC,
} from '../stream/multifd-packet.js';
import { receiveMainChannel } from './main-channel-receiver.js';
import type {
  FromReceiver,
  PlaceMessage,
  ReceiverWorkerData,
  ToReceiver,
} from './stream-receiver-protocol.js';

const MAGIC_BYTES = 4;

const port = parentPort as MessagePort;
const setup = workerData as ReceiverWorkerData;
const { connection, name } = setup;
const state = new ConnectionState(setup.state, setup.connections);
const barrier = new SyncBarrier(setup.barrier, setup.connections);
const say = (message: FromReceiver) => port.postMessage(message);

let input: SocketInput;
let fd = -1;
let placer: PagePlacer | undefined;

let connect: (socket: number | undefined) => void;
let place: (message: PlaceMessage) => void;
const connected = new Promise<number | undefined>((resolve) => {
  connect = resolve;
});
const placement = new Promise<PlaceMessage>((resolve) => {
  place = resolve;
});
port.on('message', (message: ToReceiver) => {
  if (message.type === 'connected') connect(message.socket);
  else {
    connect(undefined);
    place(message);
  }
});

/** Somebody else gave up; whatever this thread still finds wrong is a consequence. */
class AbortedError extends Error {}

receive()
  .catch((error: unknown) => {
    if (error instanceof AbortedError || barrier.aborted) say({ type: 'aborted' });
    else {
      say({
        type: 'error',
        code: error instanceof MapramError ? error.code : 'IO',
        message:
          error instanceof MapramError
            ? error.message
            : `receiving ${name}: ${errorReason(error)} at offset ${input.position}`,
        ...(error instanceof MapramError && error.offset !== undefined ? { offset: error.offset } : {}),
      });
    }
    barrier.abort();
  })
  .finally(async () => {
    await placer?.close();
    state.setActivity(connection, 'ended');
    if (fd >= 0) closeFile(fd);
    port.close();
  });

async function receive(): Promise<void> {
  const socket = await connected;
  if (socket === undefined) throw new AbortedError();
  input = new SocketInput(socket, state, connection, () => {
    if (barrier.aborted) throw new AbortedError();
  });
  const head = Buffer.alloc(MULTIFD_INITIAL_PACKET_BYTES);
  const magic = head.subarray(0, MAGIC_BYTES);
  if (readFull(input, magic) < MAGIC_BYTES) {
    throw new MapramError(
      'FORMAT',
      `receiving ${name}: connection ${connection} was closed after ${input.position} bytes`,
    );
  }
  if (magic.readUInt32BE() === MULTIFD_MAGIC) {
    const unnamed = `a multifd channel of ${name}`;
    if (readFull(input, head.subarray(MAGIC_BYTES)) < head.length - MAGIC_BYTES) {
      throw new MapramError(
        'FORMAT',
        `receiving ${unnamed}: its initial packet ends after ${input.position} bytes`,
      );
    }
    const { channel, uuid } = decodeMultifdInitialPacket(head, unnamed);
    say({ type: 'channel', channel, uuid });
    await receiveChannel(`channel ${channel} of ${name}`);
    say({ type: 'done' });
  } else {
    say({ type: 'main' });
    say(await receiveMain(magic));
  }
}

async function receiveMain(head: Uint8Array) {
  const multifd = setup.connections > 1;
  const tail = await receiveMainChannel({
    input,
    head,
    name,
    place: async (start) => {
      say(start);
      const opened = await waitForPlace(name);
      return { placer: opened.placer, touched: new Uint8Array(opened.message.touched) };
    },
    ...(multifd ? { synchronize: () => synchronize(`the main channel of ${name}`) } : {}),
    onProgress: report,
  });
  if (multifd) barrier.leave();
  return tail;
}

async function receiveChannel(channelName: string): Promise<void> {
  const opened = await waitForPlace(channelName);
  await receiveSocketChannel({
    input,
    name: channelName,
    pageSize: opened.message.pageSize,
    placer: opened.placer,
    synchronize: () => synchronize(channelName),
    onPacket: () => report(opened.placer),
  });
  barrier.leave();
}

async function waitForPlace(placerName: string): Promise<{ placer: PagePlacer; message: PlaceMessage }> {
  state.setActivity(connection, 'holding');
  const message = await placement;
  state.setActivity(connection, 'working');
  if (barrier.aborted) throw new AbortedError();
  const { path, direct, blocks } = message.place;
  fd = openFile(path, constants.O_RDWR | (direct ? O_DIRECT : 0));
  const digester = await arrivalDigester(blocks, setup.connections);
  placer = new PagePlacer(fd, { name: placerName, direct, blocks, ...(digester ? { digester } : {}) });
  return { placer, message };
}

function synchronize(who: string): void {
  state.setActivity(connection, 'holding');
  const arrival = barrier.arrive();
  state.setActivity(connection, 'working');
  if (arrival === 'aborted') throw new AbortedError();
  if (arrival === 'deserted') {
    throw new MapramError(
      'FORMAT',
      `receiving ${who}: at offset ${input.position} it waits for the other connections, but one of them has ended before that synchronisation`,
      { offset: input.position },
    );
  }
}

function report({ counters }: PagePlacer): void {
  state.set(connection, 'bytes', counters.bytes);
  state.set(connection, 'normalPages', counters.normalPages);
  state.set(connection, 'duplicatePages', counters.duplicatePages);
}
