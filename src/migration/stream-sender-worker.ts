/** The thread of one connection of a stream that is made from a mapped-ram file. See stream-sender.ts. */
import { constants } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { errorReason, MapramError } from '../errors.js';
import { O_DIRECT } from '../io/direct-io-support.js';
import { releaseFiles, reopenFile } from '../io/open-file.js';
import { writeAll } from '../io/sequential-io.js';
import { PageSupply } from '../multifd/page-supply.js';
import { SocketChannelSender } from '../multifd/socket-channel-sender.js';
import { sendMainChannel } from './main-channel-sender.js';
import { SenderState } from './sender-state.js';
import { syncsOf } from './stream-of-image.js';
import type { FromSender, SenderWorkerData } from './stream-sender-protocol.js';

const port = parentPort as MessagePort;
const setup = workerData as SenderWorkerData;
const { connection, path, pageSize, role } = setup;
const state = new SenderState(setup.state, setup.connections);
let position = 0;

class AbortedError extends Error {}

const who = role.kind === 'main' ? 'the main channel' : `channel ${role.channel}`;
let fd = -1;
try {
  fd = reopenFile(setup.descriptor, constants.O_RDONLY | (setup.direct ? O_DIRECT : 0));
  send(new PageSupply(fd, path, setup.blocks));
  say({ type: 'done' });
} catch (error) {
  if (error instanceof AbortedError || state.aborted) say({ type: 'aborted' });
  else {
    say({
      type: 'error',
      code: error instanceof MapramError ? error.code : 'IO',
      message:
        error instanceof MapramError
          ? error.message
          : `sending ${path}, ${who}: ${errorReason(error)} at offset ${position}`,
    });
  }
} finally {
  if (fd >= 0) releaseFiles([fd]);
}

function say(message: FromSender): void {
  port.postMessage(message);
}

function write(bytes: Uint8Array): void {
  if (state.aborted) throw new AbortedError();
  writeAll(setup.socket, bytes);
  position += bytes.length;
}

function send(supply: PageSupply): void {
  if (role.kind === 'main') {
    const { parts, withPages } = role;
    const onPages = (normalPages: number, duplicatePages: number) =>
      state.add(connection, { normalPages, duplicatePages, bytes: normalPages * pageSize });
    sendMainChannel({ parts, supply, write, withPages, onPages });
    return;
  }
  const sender = new SocketChannelSender(write, pageSize, () => state.nextPacketNumber());
  const { beforePages, afterPages } = syncsOf(role.marks);
  sender.introduce(role.channel, role.uuid);
  for (let sync = 0; sync < beforePages; sync++) sender.synchronize();
  for (let pages = supply.read(state.takeChunk()); pages; pages = supply.read(state.takeChunk())) {
    sender.pages(pages);
    state.add(connection, { normalPages: pages.offsets.length, bytes: pages.data.length });
  }
  for (let sync = 0; sync < afterPages; sync++) sender.synchronize();
}
