import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine } from '../../src/launch/command-line.js';
import { clientSocketsOf } from '../../src/launch/endpoints.js';

test('sockets to which QEMU connects are told from those on which it listens', () => {
  const options = parseCommandLine([
    ...['-chardev', 'socket,id=tpm,path=/run/tpm.sock', '-tpmdev', 'emulator,id=t,chardev=tpm'],
    ...['-chardev', 'socket,id=log,host=loghost,port=5000,reconnect=1'],
    ...['-chardev', 'socket,id=qmp,path=/run/qmp.sock,server=on,wait=off'],
    ...['-chardev', 'file,id=f,path=/tmp/f'],
    ...['-serial', 'unix:/run/console.sock', '-serial', 'tcp:4001,server=on', '-monitor', 'stdio'],
  ]);
  assert.deepEqual(clientSocketsOf(options), [
    { user: 'chardev tpm', address: '/run/tpm.sock', isTpm: true },
    { user: 'chardev log', address: 'loghost:5000', isTpm: false },
    { user: 'serial', address: '/run/console.sock', isTpm: false },
  ]);
});
