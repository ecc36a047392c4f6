/** What is at the paths of the sockets that a command line wants to create. */
import path from 'node:path';
import { errorReason, MapramError } from '../errors.js';
import { type SocketPlace, socketPlace } from '../io/socket/listening.js';
import type { CommandLineOption } from './command-line.js';
import { endpointsOf } from './endpoints.js';

/**
 * Refuses a command line whose sockets are in use, would replace something that is not a socket, or are there twice: QEMU removes
 * whatever is at the path of a socket before it listens there.
 *
 * @throws MapramError `BUSY` where another process listens, `EXISTS` where there is something else, `USAGE` for one that is given
 * twice, `IO` for a path that cannot be looked at
 */
export async function assertSocketsFree(
  options: readonly CommandLineOption[],
  workingDirectory: string,
): Promise<void> {
  const sockets = new Map<string, string>();
  for (const endpoint of endpointsOf(options)) {
    if (endpoint.kind !== 'socket' || endpoint.path === undefined) continue;
    const socket = path.resolve(workingDirectory, endpoint.path);
    if (sockets.has(socket)) {
      throw new MapramError(
        'USAGE',
        `starting QEMU: the socket ${socket} is given twice (${endpoint.user})`,
        { path: socket },
      );
    }
    sockets.set(socket, endpoint.user);
  }
  await Promise.all([...sockets].map(([socket, user]) => assertSocketFree(socket, user)));
}

async function assertSocketFree(socket: string, user: string): Promise<void> {
  let place: SocketPlace;
  try {
    place = await socketPlace(socket);
  } catch (error) {
    throw new MapramError('IO', `starting QEMU: its ${user} socket ${socket}: ${errorReason(error)}`, {
      path: socket,
      cause: error,
    });
  }
  if (place === 'in use') {
    throw new MapramError(
      'BUSY',
      `starting QEMU: another process listens on its ${user} socket ${socket} already; end that VM, or choose another socket`,
      { path: socket },
    );
  }
  if (place === 'not a socket') {
    throw new MapramError(
      'EXISTS',
      `starting QEMU: its ${user} socket would replace ${socket}, which is not a socket; remove it, or choose another socket`,
      { path: socket },
    );
  }
}
