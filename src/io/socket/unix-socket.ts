/** What Node's `net` leaves out of Unix sockets: who is at the other end, and passing descriptors. */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { MapramError } from '../../errors.js';
import { releaseFiles } from '../file/open-file.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_RDWR = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const O_NONBLOCK = 0o4000;

/** `struct cmsghdr` of 64-bit Linux: length, level, type; records are padded to 8 bytes. */
const CMSG = { bytes: 16, length: 0, level: 8, type: 12, padding: 8 } as const;
/** The kernel's own limit (SCM_MAX_FD). */
const MAXIMUM_DESCRIPTORS = 253;
/** How long a full socket buffer is left alone before the next try. */
const RETRY_MS = 2;

/** The process that opened the other end of a connection, as it was then. */
export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** SO_PEERCRED of a connected Unix socket. `pid` is 0 when that process is outside of this PID namespace. */
export function peerCredentials(socket: Socket | number): PeerCredentials {
  const result = Buffer.alloc(12);
  native().getsockopt(descriptorOf(socket), SOL_SOCKET, SO_PEERCRED, result);
  return { pid: result.readInt32LE(0), uid: result.readUInt32LE(4), gid: result.readUInt32LE(8) };
}

/** The descriptor under a socket of Node's, which its interface does not show. */
export function descriptorOf(socket: Socket | number): number {
  if (typeof socket === 'number') return socket;
  const fd = (socket as Socket & { _handle?: { fd?: number } | null })._handle?.fd;
  if (fd === undefined || fd < 0) {
    throw new MapramError('IO', 'using the descriptor of a socket: it is not connected');
  }
  return fd;
}

/** A blocking descriptor for the same connection, for a worker that reads it with plain calls. The caller closes it. */
export function duplicateBlocking(socket: Socket | number): number {
  const fd = native().fcntl(descriptorOf(socket), F_DUPFD_CLOEXEC, 0);
  native().fcntl(fd, F_SETFL, native().fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
  return fd;
}

/**
 * Ends a connection in both directions without giving up its descriptor: a thread that waits in a read of it wakes
 * up and sees the end. Does nothing when the connection has ended already.
 */
export function shutdownSocket(fd: number): void {
  try {
    native().shutdown(fd, SHUT_RDWR);
  } catch (error) {
    if (!hasErrno(error, 'ENOTCONN')) throw error;
  }
}

/** As `shutdownSocket`; does nothing to what is no socket. */
export function shutdownIfSocket(fd: number): void {
  try {
    shutdownSocket(fd);
  } catch (error) {
    if (!hasErrno(error, 'ENOTSOCK')) throw error;
  }
}

/** Two connected, blocking stream sockets. The caller closes both. */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  native().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
  return [pair[0] as number, pair[1] as number];
}

/**
 * Sends bytes with descriptors attached (SCM_RIGHTS). The receiver gets duplicates; the originals stay open here.
 *
 * With a `net.Socket` everything that was written to it before goes out first, and what does not fit into the socket's
 * buffer goes through its ordinary `write`. Nobody else may write to it until the promise is settled.
 */
export async function sendDescriptors(
  socket: Socket | number,
  data: Uint8Array,
  fds: readonly number[],
): Promise<void> {
  if (data.length === 0 || fds.length === 0 || fds.length > MAXIMUM_DESCRIPTORS) {
    throw new RangeError(`cannot pass ${fds.length} descriptors with ${data.length} bytes`);
  }
  const control = Buffer.alloc(padded(CMSG.bytes + 4 * fds.length));
  control.writeBigUInt64LE(BigInt(CMSG.bytes + 4 * fds.length), CMSG.length);
  control.writeInt32LE(SOL_SOCKET, CMSG.level);
  control.writeInt32LE(SCM_RIGHTS, CMSG.type);
  for (const [index, fd] of fds.entries()) control.writeInt32LE(fd, CMSG.bytes + 4 * index);

  while (typeof socket !== 'number' && socket.writableLength > 0) await sleep(RETRY_MS);
  let sent: number | undefined;
  while (sent === undefined) {
    try {
      sent = native().sendmsg(descriptorOf(socket), { data, control }, MSG_NOSIGNAL | MSG_DONTWAIT);
    } catch (error) {
      if (!hasErrno(error, 'EAGAIN')) throw error;
      await sleep(RETRY_MS);
    }
  }
  if (sent === data.length) return;
  const rest = data.subarray(sent);
  if (typeof socket !== 'number') {
    await new Promise<void>((resolve, reject) => {
      socket.write(rest, (error) => (error ? reject(error) : resolve()));
    });
    return;
  }
  for (let done = 0; done < rest.length; ) {
    done += native().sendmsg(socket, { data: rest.subarray(done), control: Buffer.alloc(0) }, MSG_NOSIGNAL);
  }
}

export interface ReceivedDescriptors {
  data: Buffer;
  /** Close-on-exec; the caller closes them. */
  fds: number[];
}

/**
 * Waits (blocking this thread) for one message of at most `maximumBytes` bytes and `maximumFds` descriptors. No bytes means the other
 * end was closed.
 *
 * @throws MapramError `IO` when more descriptors came than fit; those that did are closed.
 */
export function receiveDescriptors(
  fd: number,
  maximumBytes: number,
  maximumFds: number,
): ReceivedDescriptors {
  const data = Buffer.alloc(maximumBytes);
  const control = Buffer.alloc(padded(CMSG.bytes + 4 * maximumFds));
  const { bytes, controlBytes, flags } = native().recvmsg(fd, { data, control }, MSG_CMSG_CLOEXEC);
  const fds: number[] = [];
  for (let at = 0; at + CMSG.bytes <= controlBytes; ) {
    const length = Number(control.readBigUInt64LE(at + CMSG.length));
    if (length < CMSG.bytes || at + length > controlBytes) break;
    if (
      control.readInt32LE(at + CMSG.level) === SOL_SOCKET &&
      control.readInt32LE(at + CMSG.type) === SCM_RIGHTS
    ) {
      for (let entry = at + CMSG.bytes; entry < at + length; entry += 4) fds.push(control.readInt32LE(entry));
    }
    at += padded(length);
  }
  // Padding leaves room for one descriptor more than was asked for.
  if ((flags & MSG_CTRUNC) !== 0 || fds.length > maximumFds) {
    releaseFiles(fds);
    throw new MapramError('IO', `receiving descriptors: more than ${maximumFds} came in one message`);
  }
  return { data: data.subarray(0, bytes), fds };
}

function padded(length: number): number {
  return Math.ceil(length / CMSG.padding) * CMSG.padding;
}
