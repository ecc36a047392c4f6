/** QEMUs whose process is out of reach: another program answers at the socket, or the kernel does not let this one look. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { monitorInFrontOf } from '../../src/monitor/open-monitor.js';
import { planResume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, repositoryRoot } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';

const run = promisify(execFile);
const CLI = path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js');

/** A program that passes bytes on, and nothing else: no descriptors. */
async function relay(vm: TestVm, socket: string): Promise<AsyncDisposable> {
  const server = createServer((client) => {
    const qemu = connect(vm.qmpPath);
    client.pipe(qemu).pipe(client);
    for (const end of [client, qemu]) end.on('error', () => {}).on('close', () => void client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

async function launchIn(file: string): Promise<unknown> {
  await using image = await MappedRamImage.open(file);
  return (image.manifest as { launch?: unknown }).launch;
}

describe('a QEMU behind another program', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('is saved by every method through a relay, and the relay is not recorded (R18)', async () => {
    await using vm = await startVm({ memory: 'shared-file' });
    const socket = path.join(vm.folder, 'relay.sock');
    await using _ = await relay(vm, socket);
    for (const method of ['auto', 'shared', 'native', 'stream'] as const) {
      const file = path.join(vm.folder, `${method}.mapram`);
      const result = await save({ vm: socket, file, method, directIo: 'off' });
      if (method === 'auto') assert.match(result.methodReason, /process of QEMU cannot be told/);
      else assert.equal(result.method, method);
      assert.equal(await launchIn(file), undefined);
      await assert.rejects(planResume({ file }), failsWith('USAGE', /does not tell how its VM was started/));
      await vm.console.waitForCounterAbove(vm.console.counter);
    }
  });

  test('is saved by native through the monitor of mapram, which is not recorded either (R18)', async () => {
    await using vm = await startVm();
    const socket = path.join(vm.folder, 'front.sock');
    const monitor = await monitorInFrontOf(vm.qmpPath);
    try {
      await monitor.listenQmp(socket);
      const file = path.join(vm.folder, 'vm.mapram');
      await save({ vm: socket, file, method: 'native', directIo: 'off' });
      assert.equal(await launchIn(file), undefined);
    } finally {
      await monitor.close();
    }
  });
});

describe(
  'auto with memory that is shared',
  needs({ qemu: '10.0', guest: 'tiny', tools: ['setpriv'] }),
  () => {
    const shells: [where: string, shell: string[], reason: RegExp][] = [
      ['in another PID namespace', ['unshare', '-p', '-f', '--mount-proc'], /cannot be told from here/],
      [
        'without capabilities',
        ['setpriv', '--bounding-set=-all', '--inh-caps=-all'],
        /cannot be opened here: .*permission denied/,
      ],
    ];
    for (const [where, shell, reason] of shells) {
      test(`takes another method ${where} (F16)`, async () => {
        await using vm = await startVm({ memory: 'shared-file' });
        const file = path.join(vm.folder, 'vm.mapram');
        const [program = '', ...args] = [...shell, process.execPath, CLI, 'save', vm.qmpPath, file, '--json'];
        const { stdout } = await run(program, args);
        const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
        assert.notEqual(result.method, 'shared');
        assert.match(result.methodReason, reason);
        await vm.console.waitForCounterAbove(vm.console.counter);
      });
    }
  },
);
