/**
 * The thread that reads clients' sockets: Node's own sockets drop descriptors that are passed to them, so these are
 * read by recvmsg, when poll says that something is there.
 */
import { readSync } from 'node:fs';
import { pollReadable } from '../io/socket/poll.js';
import { receiveDescriptors } from '../io/socket/unix-socket.js';
import { hasErrno } from '../io/system-error.js';
import type { ThreadService } from '../threads/thread-protocol.js';

/** Waits until one of the sockets has input, or a byte on the wake descriptor says that there is something else to do. */
export interface ReaderRequest {
  readonly wakeFd: number;
  readonly sockets: readonly number[];
}

/** Input of a socket; none at its end. */
export interface SocketRead {
  readonly fd: number;
  readonly bytes: Uint8Array;
  readonly descriptors: number[];
}

/** Bytes and descriptors taken at once; QEMU takes no more than 16 descriptors either. */
const MAX_BYTES = 64 << 10;
const MAX_DESCRIPTORS = 16;

export function open(): ThreadService<ReaderRequest, SocketRead[]> {
  return {
    carryOut: ({ wakeFd, sockets }) => pollReadable([wakeFd, ...sockets]).flatMap((fd) => read(fd, wakeFd)),
  };
}

function read(fd: number, wakeFd: number): SocketRead[] {
  if (fd === wakeFd) {
    readSync(wakeFd, Buffer.alloc(4096));
    return [];
  }
  try {
    const { data, fds } = receiveDescriptors(fd, MAX_BYTES, MAX_DESCRIPTORS);
    return [{ fd, bytes: data, descriptors: fds }];
  } catch (error) {
    return hasErrno(error, 'EAGAIN') ? [] : [{ fd, bytes: new Uint8Array(), descriptors: [] }];
  }
}
