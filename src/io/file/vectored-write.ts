import { writev } from 'node:fs';
import { constants } from 'node:os';
import { admit } from '../faults.js';
import { hasErrno, systemError } from '../system-error.js';

/**
 * Writes `buffers` one behind the other from `position` on: `pwritev`, on a thread of Node's pool, so that the
 * calling thread can block in a call of its own meanwhile. The buffers must not change until the promise settles.
 *
 * @throws the system error of the failing write; EIO where the kernel takes nothing at all.
 */
export async function writeVector(
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let rest = buffers;
  let at = position;
  while (rest.length > 0) {
    const written = await writeSome(fd, rest, at);
    if (written === 0) throw systemError(constants.errno.EIO, 'write');
    rest = withoutFirst(rest, written);
    at += written;
  }
}

async function writeSome(fd: number, buffers: readonly Uint8Array[], position: number): Promise<number> {
  const length = buffers.reduce((total, buffer) => total + buffer.length, 0);
  for (;;) {
    try {
      const admitted = admit('write', length, () => ({ fd, position }));
      const taken = admitted < length ? firstBytes(buffers, admitted) : buffers;
      return await new Promise<number>((resolve, reject) => {
        writev(fd, taken, position, (error, written) => (error ? reject(error) : resolve(written)));
      });
    } catch (error) {
      if (!hasErrno(error, 'EINTR', 'EAGAIN')) throw error;
    }
  }
}

function firstBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const taken: Uint8Array[] = [];
  let missing = count;
  for (const buffer of buffers) {
    if (missing === 0) break;
    taken.push(buffer.subarray(0, missing));
    missing -= Math.min(missing, buffer.length);
  }
  return taken;
}

function withoutFirst(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = count;
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(buffer.subarray(skip));
    skip -= Math.min(skip, buffer.length);
  }
  return rest;
}
