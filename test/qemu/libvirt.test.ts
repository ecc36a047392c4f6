/** A save of libvirt 11.3 in its `sparse` format goes on in QEMUs that libvirt knows nothing of. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { unpack } from '../analysis/unpack.js';
import { expectedOf } from '../golden/golden-file.js';
import { needs, qemuProgram } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const NAME = 'libvirt-11.3-sparse';
let folder: string;
let file: string;
let firmware: string;

before(() => {
  folder = temporaryFolder('libvirt');
  file = unpack(folder, NAME);
  firmware = path.join(folder, 'firmware');
  // Its contents come with the file.
  writeFileSync(firmware, Buffer.alloc(65536));
});

/** What `virsh domxml-to-native qemu-argv` gives for the domain in the file, without names, monitor and secrets of libvirt's own. */
const commandLine = () => [
  ...['-name', 'guest=web,debug-threads=on'],
  ...[
    '-machine',
    'pc-i440fx-10.0,usb=off,dump-guest-core=off,memory-backend=pc.ram,acpi=on',
    '-accel',
    'tcg',
  ],
  ...['-cpu', 'qemu64', '-bios', firmware, '-m', 'size=2048k'],
  ...['-object', '{"qom-type":"memory-backend-ram","id":"pc.ram","size":2097152}'],
  ...['-overcommit', 'mem-lock=off', '-smp', '1,sockets=1,cores=1,threads=1'],
  ...['-uuid', '12345678-9abc-4ef0-8123-456789abcdef', '-display', 'none', '-no-user-config', '-nodefaults'],
  ...['-rtc', 'base=utc', '-no-shutdown', '-boot', 'strict=on', '-chardev', 'null,id=charserial0'],
  ...['-device', '{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}'],
  ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ...['-msg', 'timestamp=on'],
];

async function assertIsTheSavedGuest(qmp: QmpSession): Promise<void> {
  const hmp = (line: string) => qmp.execute<string>('human-monitor-command', { 'command-line': line });
  const lines = (await hmp('info registers')).trim().split(/\r?\n/);
  // The first line may name the CPU with a star.
  assert.deepEqual(lines.slice(1), expectedOf(NAME).registers.slice(1));
  // The guest wrote the number of its segment into every other page.
  assert.match(await hmp('xp /2xb 0x12000'), /0x00 0x12/);
}

describe('a sparse save of libvirt', needs({ qemu: '10.0' }), () => {
  test("is resumed with libvirt's command line", async () => {
    const qmp = path.join(folder, 'resumed.qmp');
    await using vm = await resume({ file, qmp, command: [qemuProgram('10.0').program, ...commandLine()] });
    assert.equal(vm.facts.runState, 'paused', 'it was saved while suspended');
    await assertIsTheSavedGuest(await QmpSession.open(qmp));
  });

  test('is restored into a QEMU that waits', async () => {
    const machine = 'pc-i440fx-10.0';
    const extraArgs = ['-bios', firmware];
    await using vm = await startVm({ machine, memoryMiB: 2, guest: 'none', incoming: true, extraArgs });
    await restore({ file, vm: vm.qmpPath });
    await assertIsTheSavedGuest(vm.qmp);
  });
});
