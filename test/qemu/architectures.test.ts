/** Guests of other processors than x86 go on from their files, whatever saved and whatever loads them. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore.js';
import { save } from '../../src/snapshot/save.js';
import { verify } from '../../src/snapshot/verify.js';
import { type ForeignArchitecture, needs } from '../support/environment.js';
import { loadMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';

const architectures: ForeignArchitecture[] = ['aarch64', 'ppc64', 'riscv64', 's390x'];

/** Asserts that the guest goes on where the source stopped, with the same memory. */
async function assertGoesOn(vm: TestVm, source: TestVm): Promise<void> {
  const count = source.console.counter;
  if ((await vm.status()) !== 'running') await vm.cont();
  assert.equal(await vm.console.waitForCounterAbove(-1), count + 1);
  assert.equal(await vm.console.checksum(), source.console.bootChecksum);
  await vm.console.waitForCounterAbove(count + 10);
  assert.deepEqual(vm.console.torn, []);
}

for (const architecture of architectures) {
  describe(`a guest of ${architecture}`, needs({ qemu: '10.0', architecture, guest: 'tiny' }), () => {
    for (const method of ['native'] as const) {
      test(`goes on from a file saved by ${method}, loaded by mapram and by QEMU itself`, async () => {
        await using source = await startVm({ architecture });
        await source.console.waitForCounterAbove(10);
        await source.stop();
        const file = path.join(source.folder, 'saved');
        await save({ vm: source.qmpPath, file, method });
        assert.equal((await verify({ file })).ok, true);

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
