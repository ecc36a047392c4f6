/** Saving by stream: what any QEMU sends becomes a mapped-ram file that stock QEMU loads. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { type SaveOptions, type SaveResult, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { needs, type QemuName } from '../support/environment.js';
import { assertImageHoldsMemory } from '../support/image-witness.js';
import { loadMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';

type Way = Pick<SaveOptions, 'channels' | 'multifd' | 'compression' | 'live'>;

const wayName = ({ channels = 4, multifd = true, compression, live = false }: Way): string =>
  [multifd ? `${channels} channels` : 'plain', compression, live && 'live'].filter(Boolean).join(', ');

const everyWay: Way[] = [
  { multifd: false },
  { multifd: false, live: true },
  { channels: 1 },
  { channels: 2, live: true },
  { channels: 4 },
  { channels: 8, live: true },
  { channels: 2, compression: 'zlib', live: true },
  { channels: 2, compression: 'zstd' },
];

/** Leaves the guest stopped, so that its memory can be compared with the file. */
async function saveRunning(vm: TestVm, file: string, way: Way): Promise<SaveResult> {
  if ((await vm.status()) !== 'running') await vm.cont();
  await vm.console.waitForCounterAbove();
  const then = 'stop';
  const phases = new Set<string>();
  const result = await save({
    onProgress: ({ phase }) => phases.add(phase),
    vm: vm.qmpPath,
    file,
    method: 'stream',
    afterwards: then,
    force: true,
    ...way,
  });
  assert.equal(result.method, 'stream');
  assert.equal(result.channels, way.multifd === false ? 1 : way.channels);
  assert.equal(result.checksums, way.multifd === false ? 'xxh64' : 'xxh64-pages');
  // Pages of a stopped guest are digested as they come. By multifd QEMU 7.2 sends a few of them twice.
  const once = !way.live && (vm.options.qemu !== '7.2' || way.multifd === false);
  if (once) assert.ok(!phases.has('checksums'), 'no page is read back');
  return result;
}

async function assertSoundImage(file: string, vm: TestVm): Promise<void> {
  await using image = await MappedRamImage.open(file);
  assert.deepEqual(checkImage(image), []);
  assert.deepEqual((await verify({ file })).problems, []);
  await assertImageHoldsMemory(image, vm);
}

// In emulation QEMU 7.2 forgets pages that the guest changed between two passes, whoever takes its stream:
// `migrate exec:cat` loses them too. So only stopped guests can show what mapram makes of its streams.
const machines: [QemuName, string, Way[]][] = [
  ['10.0', 'pc-q35-10.0', everyWay],
  ['10.0', 'pc-q35-8.2', everyWay],
  ['10.0', 'pc-i440fx-7.2', everyWay],
  ['7.2', 'pc-i440fx-7.2', everyWay.map(({ live: _, ...way }) => way)],
];
for (const [qemu, machine, ways] of machines) {
  describe(`a stream of QEMU ${qemu}, ${machine}`, needs({ qemu, guest: 'tiny' }), () => {
    test('becomes a file that holds the memory of the guest', async (t) => {
      await using vm = await startVm({ qemu, machine, memory: 'shared-file' });
      for (const way of ways) {
        await t.test(wayName(way), async () => {
          const file = path.join(vm.folder, 'image');
          await saveRunning(vm, file, way);
          await assertSoundImage(file, vm);
        });
      }
      await vm.cont();
      await vm.console.waitForCounterAbove(vm.console.counter + 20);
      assert.deepEqual(vm.console.torn, []);
    });
  });
}

describe('a file made from a stream', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const loaded: [string, Way][] = [
    ['pc-q35-10.0', { multifd: false }],
    ['pc-i440fx-7.2', { channels: 3, live: true }],
  ];
  for (const [machine, way] of loaded) {
    test(`is loaded by stock QEMU, which lets the guest run on: ${machine}, ${wayName(way)}`, async () => {
      await using source = await startVm({ machine });
      const file = path.join(source.folder, 'image');
      await saveRunning(source, file, way);
      const count = source.console.counter;

      await using destination = await startVm({ machine, incoming: true });
      await loadMappedRam(destination, file, { channels: 2, directIo: true });
      assert.equal(await destination.status(), 'running');
      assert.ok(
        (await destination.console.waitForCounterAbove(-1)) > count,
        'the guest does not count on from where it was',
      );
      assert.equal(await destination.console.checksum(), source.console.bootChecksum);
      await destination.console.waitForCounterAbove(count + 20);
      assert.deepEqual(destination.console.torn, []);
    });
  }
});
