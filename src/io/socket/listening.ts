/** Listening sockets: a Unix socket is made for this user alone, and a file in its way is replaced only if nobody listens there. */
import { once } from 'node:events';
import { lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { MapramError } from '../../errors.js';
import { hasErrno } from '../system-error.js';

export type ListenAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }
  | { readonly fd: number };

/** Binds with the umask closed, so that the socket is never open to others, not even for a moment. */
export async function listenPrivately(server: Server, address: ListenAddress): Promise<void> {
  const umask = 'path' in address ? process.umask(0o177) : undefined;
  try {
    const listening = once(server, 'listening');
    server.listen('path' in address ? { path: address.path } : address);
    if (umask !== undefined) process.umask(umask);
    await listening;
  } catch (error) {
    if (umask !== undefined) process.umask(umask);
    throw error;
  }
}

/**
 * Removes a socket file that is all that is left of somebody.
 *
 * @throws MapramError `EXISTS` the path is not a socket; `BUSY` somebody listens there
 */
export async function removeStaleSocket(path: string): Promise<void> {
  const place = await socketPlace(path);
  if (place === 'not a socket') {
    throw new MapramError('EXISTS', `cannot listen on ${path}: a file that is not a socket is in the way`, {
      path,
    });
  }
  if (place === 'in use') {
    throw new MapramError(
      'BUSY',
      `cannot listen on ${path}: another process listens there already; choose another path`,
      { path },
    );
  }
  if (place === 'left over') unlinkSync(path);
}

/**
 * What is at the path of a socket to be: nothing, a socket that is all that is left of a process, one that somebody listens on, or
 * something else, a symbolic link included, that listening must not replace.
 */
export type SocketPlace = 'free' | 'left over' | 'in use' | 'not a socket';

/** @throws the system error of a path that cannot be looked at */
export async function socketPlace(path: string): Promise<SocketPlace> {
  let file: ReturnType<typeof lstatSync>;
  try {
    file = lstatSync(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return 'free';
    throw error;
  }
  if (!file.isSocket()) return 'not a socket';
  return (await someoneListens(path)) ? 'in use' : 'left over';
}

function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Refused: the socket file is all that is left. Anything else is no proof that nobody is there.
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED'));
  });
}
