import { native } from '../native.js';

/** `struct pollfd`: descriptor, events wanted, events seen. */
const POLLFD = { bytes: 8, events: 4, revents: 6 } as const;
const POLLIN = 1;
const POLLOUT = 4;

/**
 * Blocks this thread until at least one descriptor has input, has ended or is broken, and returns those.
 *
 * @param timeoutMs at most this long; forever by default
 */
export function pollReadable(fds: readonly number[], timeoutMs = -1): number[] {
  return pollFor(POLLIN, fds, timeoutMs);
}

/** As `pollReadable`: until something can be written, or a write would fail. */
export function pollWritable(fds: readonly number[], timeoutMs = -1): number[] {
  return pollFor(POLLOUT, fds, timeoutMs);
}

function pollFor(events: number, fds: readonly number[], timeoutMs: number): number[] {
  const set = Buffer.alloc(POLLFD.bytes * fds.length);
  for (const [index, fd] of fds.entries()) {
    set.writeInt32LE(fd, POLLFD.bytes * index);
    set.writeInt16LE(events, POLLFD.bytes * index + POLLFD.events);
  }
  native().poll(set, fds.length, timeoutMs);
  return fds.filter((_, index) => set.readInt16LE(POLLFD.bytes * index + POLLFD.revents) !== 0);
}
