/** Whether somebody listens on the sockets that a command line wants to create. */
import { connect } from 'node:net';
import path from 'node:path';
import { MapramError } from '../errors.js';
import type { CommandLineOption } from './command-line.js';
import { endpointsOf } from './endpoints.js';

/**
 * Refuses a command line whose sockets are in use, or that has one twice: QEMU would take the paths over without a word.
 *
 * @throws MapramError `BUSY`
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
  await Promise.all(
    [...sockets].map(async ([socket, user]) => {
      if (!(await isListening(socket))) return;
      throw new MapramError(
        'BUSY',
        `starting QEMU: somebody listens on its ${user} socket ${socket} already; end that VM, or choose another socket`,
        { path: socket },
      );
    }),
  );
}

function isListening(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    const settle = (listening: boolean) => {
      connection.destroy();
      resolve(listening);
    };
    connection.once('connect', () => settle(true));
    connection.once('error', (error: NodeJS.ErrnoException) => settle(error.code === 'EAGAIN'));
  });
}
