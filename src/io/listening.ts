/** Listening sockets: a Unix socket is made for this user alone, and a file in its way is replaced only if nobody listens there. */
import { once } from 'node:events';
import { lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { MapramError } from '../errors.js';

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
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined) return;
  if (!file.isSocket()) {
    throw new MapramError('EXISTS', `cannot listen on ${path}: a file that is not a socket is in the way`, {
      path,
    });
  }
  if (await someoneListens(path)) {
    throw new MapramError(
      'BUSY',
      `cannot listen on ${path}: another process listens there already; choose another path`,
      { path },
    );
  }
  unlinkSync(path);
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
