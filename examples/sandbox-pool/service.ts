/**
 * Runs commands from anybody, each in a virtual machine of its own that is thrown away afterwards.
 *
 *     node service.ts SNAPSHOT [PORT]
 *     curl --data 'uname -a' http://127.0.0.1:PORT/
 */
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import path from 'node:path';
import { ClonePool } from 'mapram';

const [snapshot, port = '0'] = process.argv.slice(2);
if (snapshot === undefined) throw new Error('usage: service.ts SNAPSHOT [PORT]');

/** VMs that wait with their memory mapped. */
const WAITING = 2;
const TIMEOUT_MS = 30_000;
const MAX_OUTPUT = 1 << 20;

const pool = await ClonePool.open({ file: snapshot, size: WAITING, cont: true });
await pool.filled();

/** What a command wrote, and its exit code. The VM is gone when this settles. */
async function run(command: string): Promise<{ output: string; exitCode: number }> {
  const vm = await pool.take();
  const serial = connect(path.join(vm.directory, 'serial.sock')).setEncoding('utf8');
  const timeout = setTimeout(() => serial.destroy(new Error('it took too long')), TIMEOUT_MS);
  try {
    serial.write(`${command.replaceAll('\n', ' ')}\n`);
    let text = '';
    for await (const piece of serial) {
      text += piece;
      const [tail, code] = /exit code (\d+)\r?\n$/.exec(text) ?? [];
      if (tail !== undefined) return { output: text.slice(0, -tail.length), exitCode: Number(code) };
      if (text.length > MAX_OUTPUT) throw new Error('it wrote too much');
    }
    throw new Error('its VM has ended');
  } finally {
    clearTimeout(timeout);
    serial.destroy();
    // Its folder goes with it.
    await vm.close();
  }
}

const server = createServer(async (request, response) => {
  try {
    let command = '';
    for await (const piece of request.setEncoding('utf8')) command += piece;
    const { output, exitCode } = await run(command);
    response.setHeader('x-exit-code', exitCode).end(output);
  } catch (error) {
    response.writeHead(500).end(`${(error as Error).message}\n`);
  }
});
server.listen(Number(port), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});

process.once('SIGTERM', async () => {
  server.close();
  await pool.close();
});
