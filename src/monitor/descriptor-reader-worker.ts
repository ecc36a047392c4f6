/**
 * The thread that reads clients' sockets: Node's own sockets drop descriptors that are passed to them, so these are
 * read by recvmsg, when poll says that something is there.
 *
 * Messages from the main thread lie in its port; a byte on the wake descriptor says so.
 */
import { readSync } from 'node:fs';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { pollReadable } from '../io/poll.js';
import { receiveDescriptors } from '../io/unix-socket.js';

/** Ask for the next input of a socket, let go of a socket, or end. */
export type ReaderRequest =
  | { readonly kind: 'read'; readonly fd: number }
  | { readonly kind: 'release'; readonly fd: number }
  | { readonly kind: 'stop' };

/** Input of a socket (none at its end), or the consent to close it. */
export type ReaderReply =
  | {
      readonly kind: 'input';
      readonly fd: number;
      readonly bytes: Uint8Array;
      readonly descriptors: number[];
    }
  | { readonly kind: 'released'; readonly fd: number };

/** Bytes and descriptors taken at once; QEMU takes no more than 16 descriptors either. */
const MAX_BYTES = 64 << 10;
const MAX_DESCRIPTORS = 16;

const port = parentPort as MessagePort;
const { wakeFd } = workerData as { wakeFd: number };
const wanted = new Set<number>();

function reply(message: ReaderReply): void {
  port.postMessage(message);
}

function read(fd: number): void {
  wanted.delete(fd);
  try {
    const { data, fds } = receiveDescriptors(fd, MAX_BYTES, MAX_DESCRIPTORS);
    reply({ kind: 'input', fd, bytes: data, descriptors: fds });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') wanted.add(fd);
    else reply({ kind: 'input', fd, bytes: new Uint8Array(), descriptors: [] });
  }
}

/** Returns false when it is time to end. */
function takeRequests(): boolean {
  readSync(wakeFd, Buffer.alloc(4096));
  for (;;) {
    const message = receiveMessageOnPort(port)?.message as ReaderRequest | undefined;
    if (message === undefined) return true;
    if (message.kind === 'stop') return false;
    if (message.kind === 'read') wanted.add(message.fd);
    else {
      wanted.delete(message.fd);
      reply({ kind: 'released', fd: message.fd });
    }
  }
}

for (let running = true; running; ) {
  for (const fd of pollReadable([wakeFd, ...wanted])) {
    if (fd === wakeFd) running = takeRequests();
    else if (wanted.has(fd)) read(fd);
  }
}
port.close();
