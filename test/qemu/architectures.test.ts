/** Guests of other processors than x86 go on from their files, whatever saved and whatever loads them. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save.js';
import { verify } from '../../src/snapshot/verify.js';
import { type ForeignArchitecture, needs } from '../support/environment.js';
import { loadMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';

/** Asserts that the guest goes on where the source stopped, with the same memory. */
async function assertGoesOn(vm: TestVm, source: TestVm): Promise<void> {
  const count = source.console.counter;
  if ((await vm.status()) !== 'running') await vm.cont();
  assert.equal(await vm.console.waitForCounterAbove(-1), count + 1);
  assert.equal(await vm.console.checksum(), source.console.bootChecksum);
  await vm.console.waitForCounterAbove(count + 10);
  assert.deepEqual(vm.console.torn, []);
}

interface Case {
  name: string;
  vm?: VmOptions;
  save: Pick<SaveOptions, 'method' | 'channels' | 'multifd'>;
  /** What is to save it. */
  method: string;
}

const native: Case = { name: 'native', save: { method: 'native' }, method: 'native' };
const shared: Case = { name: 'auto', vm: { memory: 'shared-file' }, save: {}, method: 'shared' };
const stream: Case = { name: 'stream', save: { method: 'stream', multifd: false }, method: 'stream' };
const multifd: Case = { name: 'multifd', save: { method: 'stream', channels: 2 }, method: 'stream' };

const cases: Record<ForeignArchitecture, Case[]> = {
  aarch64: [native, stream],
  ppc64: [native, shared, stream, multifd],
  riscv64: [native, shared, stream],
  s390x: [native, shared, stream, multifd],
};

for (const [architecture, casesHere] of Object.entries(cases) as [ForeignArchitecture, Case[]][]) {
  describe(`a guest of ${architecture}`, needs({ qemu: '10.0', architecture, guest: 'tiny' }), () => {
    for (const { name, vm, save: options, method } of casesHere) {
      test(`goes on from a file saved by ${name}, loaded by mapram and by QEMU itself`, async () => {
        await using source = await startVm({ architecture, ...vm });
        await source.console.waitForCounterAbove(10);
        await source.stop();
        const file = path.join(source.folder, 'saved');
        assert.equal((await save({ vm: source.qmpPath, file, ...options })).method, method);
        assert.deepEqual((await verify({ file })).problems, []);

        await using restored = await startVm({ architecture, incoming: true });
        await restore({ file, vm: restored.qmpPath });
        await assertGoesOn(restored, source);
        await using loaded = await startVm({ architecture, incoming: true });
        await loadMappedRam(loaded, file, { channels: 2 });
        await assertGoesOn(loaded, source);
      });
    }
  });
}

describe(
  'a guest of ppc64 under QEMU 7.2',
  needs({ qemu: '7.2', architecture: 'ppc64', guest: 'tiny' }),
  () => {
    test('goes on from a file made of its stream', async () => {
      await using source = await startVm({ qemu: '7.2', architecture: 'ppc64' });
      await source.console.waitForCounterAbove(10);
      await source.stop();
      const file = path.join(source.folder, 'saved');
      assert.equal((await save({ vm: source.qmpPath, file })).method, 'stream');
      await using restored = await startVm({ qemu: '7.2', architecture: 'ppc64', incoming: true });
      await restore({ file, vm: restored.qmpPath });
      await assertGoesOn(restored, source);
    });
  },
);

/** A device that QEMU 10.0 sends before the pages but after the list of RAM blocks. */
const virtioMem: VmOptions = {
  guest: 'tiny',
  memoryMiB: 128,
  extraArgs: [
    ...['-m', '128M,maxmem=512M', '-object', 'memory-backend-ram,id=more,size=128M'],
    ...['-device', 'virtio-mem-pci,id=vm0,memdev=more,requested-size=64M'],
  ],
};

describe('a VM with virtio-mem', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const options of [{ multifd: false }, { channels: 2 }]) {
    const how = options.multifd === false ? 'one connection' : 'channels';
    test(`goes on from a file made of its stream (${how})`, async () => {
      await using source = await startVm(virtioMem);
      await source.console.waitForCounterAbove(10);
      await source.stop();
      const file = path.join(source.folder, 'saved');
      await save({ vm: source.qmpPath, file, method: 'stream', ...options });
      assert.deepEqual((await verify({ file })).problems, []);
      await using restored = await startVm({ ...virtioMem, incoming: true });
      await restore({ file, vm: restored.qmpPath });
      await assertGoesOn(restored, source);
      await using loaded = await startVm({ ...virtioMem, incoming: true });
      await loadMappedRam(loaded, file);
      await assertGoesOn(loaded, source);
    });
  }
});
