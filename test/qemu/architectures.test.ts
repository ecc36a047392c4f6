/** Guests of other processors than x86 go on from their files, whatever saved and whatever loads them. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { convertToElf } from '../../src/snapshot/convert/convert-elf.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { type ForeignArchitecture, needs } from '../support/environment.js';
import { loadMappedRam } from '../support/native-migration.js';
import { dumpPhysicalMemory } from '../support/probes.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const MIB = 2 ** 20;

/** Asserts that the guest goes on where the source stopped, with the same memory. */
async function assertGoesOn(vm: TestVm, source: TestVm): Promise<void> {
  const seen = source.console.counter;
  if ((await vm.status()) !== 'running') await vm.cont();
  const first = await vm.console.waitForCounterAbove(-1);
  // The source's last line may arrive late, or be one that it had begun, which both then write.
  const count = source.console.counter;
  assert.ok(first > seen && first <= count + 1, `${first} follows ${seen} to ${count}`);
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
// Flash, which is not shared, must be small beside the memory that is.
const auto: Case = {
  name: 'auto',
  vm: { memory: 'shared-file', memoryMiB: 512 },
  save: {},
  method: 'shared',
};
const stream: Case = { name: 'stream', save: { method: 'stream', multifd: false }, method: 'stream' };
const multifd: Case = { name: 'multifd', save: { method: 'stream', channels: 2 }, method: 'stream' };

const cases: Record<ForeignArchitecture, Case[]> = {
  aarch64: [native, auto, stream],
  ppc64: [native, auto, stream, multifd],
  riscv64: [native, auto, stream],
  s390x: [native, auto, stream, multifd],
};

for (const [architecture, casesHere] of Object.entries(cases) as [ForeignArchitecture, Case[]][]) {
  describe(`a guest of ${architecture}`, needs({ qemu: '10.0', architecture, guest: 'tiny' }), () => {
    for (const { name, vm, save: options, method } of casesHere) {
      const memory = vm?.memoryMiB === undefined ? {} : { memoryMiB: vm.memoryMiB };
      test(`goes on from a file saved by ${name}, loaded by mapram and by QEMU itself`, async () => {
        await using source = await startVm({ architecture, ...vm });
        await source.console.waitForCounterAbove(10);
        await source.stop();
        const file = path.join(source.folder, 'saved');
        assert.equal(
          (await save({ vm: source.qmpPath, file, afterwards: 'stop', ...options })).method,
          method,
        );
        assert.deepEqual((await verify({ file })).problems, []);

        await using restored = await startVm({ architecture, ...memory, incoming: true });
        await restore({ file, vm: restored.qmpPath });
        await assertGoesOn(restored, source);
        await using loaded = await startVm({ architecture, ...memory, incoming: true });
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
      assert.equal((await save({ vm: source.qmpPath, file, afterwards: 'stop' })).method, 'stream');
      await using restored = await startVm({ qemu: '7.2', architecture: 'ppc64', incoming: true });
      await restore({ file, vm: restored.qmpPath });
      await assertGoesOn(restored, source);
    });
  },
);

describe('a board of arm with pages of 1 KiB', needs({ qemu: '10.0', architecture: 'aarch64' }), () => {
  const board = (extraArgs: string[]): VmOptions => ({
    architecture: 'aarch64',
    machine: 'versatilepb,audiodev=none',
    guest: 'none',
    memoryMiB: 64,
    extraArgs: ['-cpu', 'arm926', '-audiodev', 'none,id=none', ...extraArgs],
  });

  for (const options of [{ multifd: false }, { channels: 2 }]) {
    const how = options.multifd === false ? 'one connection' : 'channels';
    test(`is saved by stream, with all of its memory (${how})`, async () => {
      const folder = temporaryFolder('board');
      const data = randomBytes(MIB);
      // Every other page is zero.
      for (let at = 0; at < MIB; at += 2048) data.fill(0, at, at + 1024);
      const contents = path.join(folder, 'contents');
      writeFileSync(contents, data);
      const loader = ['-device', `loader,file=${contents},addr=0x100000,force-raw=on`];
      await using source = await startVm({ ...board(loader), paused: true });
      const file = path.join(folder, 'saved');
      await save({ vm: source.qmpPath, file, method: 'stream', ...options });
      assert.deepEqual((await verify({ file })).problems, []);
      await using restored = await startVm({ ...board([]), incoming: true });
      await restore({ file, vm: restored.qmpPath });
      assert.ok(
        (await dumpPhysicalMemory(restored, MIB, MIB)).equals(data),
        'the restored VM has other memory',
      );

      const core = path.join(folder, 'core');
      await using saved = await openSavedVm(file);
      await convertToElf.convert(saved, { output: core });
      const elf = readFileSync(core);
      const [elfClass, machine, memoryOffset] = [elf[4], elf.readUInt16LE(18), elf.readUInt32LE(52 + 32 + 4)];
      assert.deepEqual([elfClass, machine], [1, 40], 'ELF32, EM_ARM');
      assert.ok(
        elf.subarray(memoryOffset + MIB, memoryOffset + 2 * MIB).equals(data),
        'the ELF file has other memory',
      );
    });
  }
});

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
