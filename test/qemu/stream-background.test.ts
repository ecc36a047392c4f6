/** Background snapshots: the guest stands still for its device state only. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { loadMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';

/** Between the only STOP and the RESUME behind it, by QEMU's clock, in ms. */
function stoodStill({ qmp }: TestVm): number {
  const [stop, resume, ...more] = qmp.events
    .filter(({ event }) => event === 'STOP' || event === 'RESUME')
    .slice(-2)
    .map(({ event, timestamp }) => ({ event, at: timestamp.seconds * 1000 + timestamp.microseconds / 1000 }));
  assert.deepEqual([stop?.event, resume?.event, more], ['STOP', 'RESUME', []]);
  return (resume?.at ?? 0) - (stop?.at ?? 0);
}

describe('a background snapshot of QEMU 10.0', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('holds the guest as it was at the beginning, while it runs on', async (t) => {
    await using source = await startVm({ machine: 'pc' });
    await source.console.waitForCounterAbove(10);
    const count = source.console.counter;
    const file = path.join(source.folder, 'image');
    const result = await save({ vm: source.qmpPath, file, background: true });
    assert.equal(result.method, 'stream');
    assert.equal(result.runState, 'running');
    assert.equal(result.downtimeMs, Math.round(stoodStill(source)));
    assert.equal(result.channelsReason, 'the stream comes through a single connection');
    t.diagnostic(`guest stopped for ${result.downtimeMs} ms of ${result.totalTimeMs} ms`);
    await source.console.waitForCounterAbove(source.console.counter + 10);
    assert.deepEqual(source.console.torn, []);

    await using destination = await startVm({ machine: 'pc', incoming: true });
    await loadMappedRam(destination, file);
    assert.equal(await destination.status(), 'running');
    const first = await destination.console.waitForCounterAbove(-1);
    assert.ok(first > count && first <= source.console.counter, `first: ${first}`);
    assert.equal(await destination.console.checksum(), source.console.bootChecksum);
    await destination.console.waitForCounterAbove(first + 20);
    assert.deepEqual(destination.console.torn, []);
  });
});

test('a background snapshot of QEMU 7.2 is refused', needs({ qemu: '7.2', guest: 'tiny' }), async () => {
  await using vm = await startVm({ qemu: '7.2', machine: 'pc' });
  const file = path.join(vm.folder, 'image');
  await assert.rejects(save({ vm: vm.qmpPath, file, background: true }), /may never end such a snapshot/);
  await vm.console.waitForCounterAbove();
});

describe('background snapshots that cannot be', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('are refused with a reason, and the guest goes on', async () => {
    await using vm = await startVm();
    const file = path.join(vm.folder, 'image');
    for (const [wishes, code, pattern] of [
      [{ live: true }, 'USAGE', /either live or a background snapshot/],
      [{ compression: 'zlib' }, 'USAGE', /only multifd channels can be compressed/],
      [{ method: 'native' }, 'UNSUPPORTED', /a background snapshot was asked for; use --method stream/],
    ] as const) {
      await assert.rejects(save({ vm: vm.qmpPath, file, background: true, ...wishes }), (error) => {
        assert.ok(error instanceof MapramError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, pattern);
        return true;
      });
    }
    await vm.console.waitForCounterAbove();
  });

  test("QEMU's own, written with mapped-ram, is recognised as unusable", async () => {
    await using vm = await startVm();
    const file = path.join(vm.folder, 'image');
    const capabilities = ['mapped-ram', 'background-snapshot', 'events'].map((capability) => ({
      capability,
      state: true,
    }));
    await vm.qmp.execute('migrate-set-capabilities', { capabilities });
    await vm.qmp.execute('migrate', { uri: `file:${file}` });
    await vm.qmp.waitForEvent('MIGRATION', ({ status }) => status === 'completed');
    await using image = await MappedRamImage.open(file);
    assert.equal(image.complete, false);
    assert.match(image.problems.join(), /background snapshot that QEMU wrote with mapped-ram/);
  });
});
