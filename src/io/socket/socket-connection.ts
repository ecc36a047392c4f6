import { once } from 'node:events';
import { createConnection } from 'node:net';
import { defined } from '../../defined.js';
import { duplicateBlocking } from './unix-socket.js';

/**
 * Connects to a Unix or TCP socket.
 *
 * @returns a blocking descriptor for plain reads and writes in a thread of its own; the caller closes it
 * @throws the system error of connect(2), or of the name's resolution
 */
export async function connectBlocking(
  address: string | { host: string; port: number },
  signal?: AbortSignal,
): Promise<number> {
  const socket = createConnection(typeof address === 'string' ? { path: address } : address);
  try {
    await once(socket, 'connect', defined({ signal }));
    return duplicateBlocking(socket);
  } finally {
    // Only closes Node's descriptor: the connection lives on in the duplicate.
    socket.destroy();
  }
}
