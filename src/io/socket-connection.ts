import { once } from 'node:events';
import { createConnection } from 'node:net';
import { duplicateBlocking } from './unix-socket.js';

/**
 * Connects to a Unix socket.
 *
 * @returns a blocking descriptor for plain reads and writes in a thread of its own; the caller closes it
 * @throws the system error of connect(2)
 */
export async function connectBlocking(path: string): Promise<number> {
  const socket = createConnection({ path });
  try {
    await once(socket, 'connect');
    return duplicateBlocking(socket);
  } finally {
    // Only closes Node's descriptor: the connection lives on in the duplicate.
    socket.destroy();
  }
}
