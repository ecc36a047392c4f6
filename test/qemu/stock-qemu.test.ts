/** Stock QEMU against itself: shows that the harness sees what it should see before mapram comes into play. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { startBootedVm } from '../support/booted-vm.js';
import { needs } from '../support/environment.js';
import { loadMappedRam, loadStream, saveMappedRam, saveStream } from '../support/native-migration.js';
import { descriptorsDuring } from '../support/probes.js';
import { startVm } from '../support/qemu.js';

describe('the tiny guest', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const machine of ['q35', 'pc', 'microvm']) {
    test(`goes on after a mapped-ram round trip on ${machine}`, async () => {
      await using source = await startVm({ machine });
      await source.console.waitForCounterAbove(30);
      await source.stop();
      const count = source.console.counter;
      const file = path.join(source.folder, 'image');
      await saveMappedRam(source, file);

      await using destination = await startVm({ machine, incoming: true });
      await loadMappedRam(destination, file);
      await destination.cont();
      assert.equal(await destination.console.waitForCounterAbove(-1), count + 1);
      assert.equal(await destination.console.checksum(), source.console.bootChecksum);
      await destination.console.waitForCounterAbove(count + 20);
      assert.deepEqual(destination.console.torn, []);
    });
  }

  test('notices a page that is not as it left it', async () => {
    await using vm = await startVm({ memory: 'shared-file' });
    await vm.stop();

    const fd = openSync(vm.memoryFiles[0] ?? '', 'r+');
    writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 0x500000);
    writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 0x1000000);
    closeSync(fd);
    await vm.cont();
    await vm.console.waitForCounterAbove(vm.console.counter + 5);
    assert.deepEqual(vm.console.torn, ['torn 00500000']);
    assert.notEqual(await vm.console.checksum(), vm.console.bootChecksum);
  });
});

describe('the tiny guest on QEMU 7.2', needs({ qemu: '7.2', guest: 'tiny' }), () => {
  test('goes on after a stream round trip', async () => {
    await using source = await startVm({ qemu: '7.2', machine: 'pc' });
    await source.stop();
    const count = source.console.counter;
    const file = path.join(source.folder, 'stream');
    await saveStream(source, file);

    await using destination = await startVm({ qemu: '7.2', machine: 'pc', incoming: true });
    await loadStream(destination, file);
    await destination.cont();
    assert.equal(await destination.console.waitForCounterAbove(-1), count + 1);
    assert.equal(await destination.console.checksum(), source.console.bootChecksum);
    assert.deepEqual(destination.console.torn, []);
  });
});

describe('the Linux guest', needs({ qemu: '10.0', guest: 'linux' }), () => {
  test('goes on after a round trip through direct multifd channels', async () => {
    await using source = await startBootedVm();
    await source.stop();
    const count = source.console.counter;
    const file = path.join(source.folder, 'image');
    const { seen } = await descriptorsDuring(
      source.pid,
      file,
      saveMappedRam(source, file, { channels: 2, directIo: true }),
    );
    assert.deepEqual(seen.map(({ direct, access }) => `${access}${direct ? ' direct' : ''}`).sort(), [
      'write',
      'write direct',
      'write direct',
    ]);

    await using destination = await startVm({ guest: 'linux', incoming: true });
    await loadMappedRam(destination, file, { channels: 2, directIo: true });
    await destination.cont();
    assert.ok(
      (await destination.console.waitForCounterAbove(-1)) > count,
      'the guest does not count on from where it was',
    );
    assert.equal(await destination.console.checksum(), source.console.bootChecksum);
  });

  test('rewrites memory without losing any of it', async () => {
    const options = { memoryMiB: 256, fillMiB: 32, churn: { sizeMiB: 32, rateMiB: 200 } };
    await using source = await startBootedVm(options);
    const file = path.join(source.folder, 'image');
    await saveMappedRam(source, file, { channels: 4 });

    await using destination = await startVm({ ...options, guest: 'linux', incoming: true });
    await loadMappedRam(destination, file);
    await destination.cont();
    await destination.console.waitForCounterAbove(source.console.counter + 10);
    assert.equal(await destination.console.checksum(), source.console.bootChecksum);
    assert.deepEqual(destination.console.torn, []);
  });
});
