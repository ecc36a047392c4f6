// Runs under `ulimit -n`: takes a connection when no descriptor is left for its duplicate, and reports what became of it.
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { connect, Server } from 'node:net';
import { native } from '../../src/io/native.js';
import { DescriptorListener } from '../../src/io/socket/descriptor-listener.js';

process.on('uncaughtException', (error) => {
  console.log(`uncaught: ${error.message}`);
  process.exit(3);
});
native();
const { emit } = Server.prototype;
Server.prototype.emit = function (this: Server, event: string | symbol, ...args: unknown[]) {
  const taken: number[] = [];
  try {
    while (event === 'connection') taken.push(openSync('/dev/null', 'r'));
  } catch {
    // None is left.
  }
  const heard = Reflect.apply(emit, this, [event, ...args]) as boolean;
  for (const fd of taken) closeSync(fd);
  return heard;
};
await using listener = await DescriptorListener.open();
const early = process.argv[2] === 'early' ? listener.accept() : undefined;
early?.catch(() => {});
const client = connect(listener.path);
client.on('error', () => {}).resume();
await once(client, 'close');
const outcome = await (early ?? listener.accept()).then(
  () => 'accepted',
  (error: Error) => error.message,
);
console.log(outcome);
