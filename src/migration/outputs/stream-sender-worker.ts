/** The thread of one connection of a stream that is made from a mapped-ram file. See stream-sender.ts. */
import { constants } from 'node:fs';
import { ChannelState } from '../../channels/file/channel-state.js';
import { PageSupply } from '../../channels/file/page-supply.js';
import { SocketChannelSender } from '../../channels/socket/socket-channel-sender.js';
import { errorReason, MapramError } from '../../errors.js';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { FileIoError } from '../../io/file/file-io-error.js';
import { releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { writeAll } from '../../io/file/sequential-io.js';
import { native } from '../../io/native.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import { sendMainChannel } from './main-channel-sender.js';
import { syncsOf } from './stream-of-image.js';
import type { SendRequest } from './stream-sender-protocol.js';

export function open(): ThreadService<SendRequest> {
  return { carryOut: (request) => new Connection(request).run() };
}

class Connection {
  readonly #request: SendRequest;
  readonly #state: ChannelState;
  #position = 0;

  constructor(request: SendRequest) {
    this.#request = request;
    this.#state = new ChannelState(request.connections, request.state);
  }

  run(): void {
    const { path, descriptor, direct, blocks, role } = this.#request;
    const fds: number[] = [];
    try {
      fds.push(reopenFile(descriptor, constants.O_RDONLY | (direct ? O_DIRECT : 0)));
      this.#send(new PageSupply(fds[0] as number, path, blocks));
    } catch (error) {
      if (error instanceof MapramError) throw error;
      const who = role.kind === 'main' ? 'the main channel' : `channel ${role.channel}`;
      throw new MapramError(
        'IO',
        error instanceof FileIoError
          ? `reading ${path}: ${errorReason(error.cause)} at offset ${error.offset}`
          : `sending ${path}, ${who}: ${errorReason(error)}, after ${this.#position} bytes`,
      );
    } finally {
      releaseFiles(fds);
    }
  }

  #write(bytes: Uint8Array): void {
    if (this.#state.stopped) throw new MapramError('CANCELLED', `sending ${this.#request.path}: cancelled`);
    writeAll(this.#request.socket, bytes);
    this.#position += bytes.length;
  }

  #count(normalPages: number, duplicatePages: number): void {
    const { connection, pageSize } = this.#request;
    this.#state.count(connection, 'normalPages', normalPages);
    this.#state.count(connection, 'duplicatePages', duplicatePages);
    this.#state.count(connection, 'bytes', normalPages * pageSize);
  }

  #send(supply: PageSupply): void {
    const { role, pageSize } = this.#request;
    const state = this.#state;
    const write = (bytes: Uint8Array) => this.#write(bytes);
    if (role.kind === 'main') {
      const { parts, withPages } = role;
      sendMainChannel({ parts, supply, write, withPages, onPages: (...pages) => this.#count(...pages) });
      return;
    }
    const sender = new SocketChannelSender(write, pageSize, () => state.nextPacketNumber());
    const { beforePages, afterPages } = syncsOf(role.marks);
    sender.introduce(role.channel, role.uuid);
    for (let sync = 0; sync < beforePages; sync++) sender.synchronize();
    for (let pages = supply.read(state.takeChunk()); pages; pages = supply.read(state.takeChunk())) {
      sender.pages(pages);
      this.#count(pages.offsets.length, 0);
    }
    for (let sync = 0; sync < afterPages; sync++) sender.synchronize();
  }
}

native();
