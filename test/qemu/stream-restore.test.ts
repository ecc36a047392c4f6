/** Loading by stream: a mapped-ram file comes up in any QEMU, those included that know nothing of mapped-ram. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { convertToStream } from '../../src/snapshot/convert/convert-stream.js';
import { type RestoreOptions, restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, type QemuName } from '../support/environment.js';
import { loadStream } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';

type Way = Pick<RestoreOptions, 'channels' | 'multifd'>;

const wayName = ({ channels, multifd = true }: Way): string => (multifd ? `${channels} channels` : 'plain');

const cases: [QemuName, string, Way[]][] = [
  ['7.2', 'pc-i440fx-7.2', [{ multifd: false }, { channels: 1 }, { channels: 8 }]],
  ['10.0', 'pc-i440fx-7.2', [{ channels: 3 }]],
  ['10.0', 'pc-q35-8.2', [{ channels: 2 }]],
  ['10.0', 'pc-q35-10.0', [{ multifd: false }, { channels: 4 }]],
];
for (const [qemu, machine, ways] of cases) {
  describe(`a file saved by stream from QEMU ${qemu}, ${machine}`, needs({ qemu, guest: 'tiny' }), () => {
    test('is loaded by stream', async (t) => {
      await using source = await startVm({ qemu, machine });
      await source.console.waitForCounterAbove(20);
      const file = path.join(source.folder, 'image');
      const then = 'stop';
      await save({ vm: source.qmpPath, file, method: 'stream', afterwards: then, channels: 2 });
      const count = source.console.counter;
      for (const way of ways) {
        await t.test(wayName(way), async () => {
          await using destination = await startVm({ qemu, machine, incoming: true });
          const result = await restore({ vm: destination.qmpPath, file, method: 'stream', ...way });
          assert.equal(result.runState, 'running');
          assert.equal(result.directIo, true);
          assert.equal(result.channels, way.channels ?? 1);
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
  });
}

describe(
  'a file saved from QEMU 7.2 and converted to a stream',
  needs({ qemu: '7.2', guest: 'tiny' }),
  () => {
    test('is loaded by QEMU 7.2 alone', async () => {
      await using source = await startVm({ qemu: '7.2', machine: 'pc' });
      const file = path.join(source.folder, 'image');
      const then = 'stop';
      await save({ vm: source.qmpPath, file, afterwards: then });
      const count = source.console.counter;
      const stream = path.join(source.folder, 'stream');
      {
        await using saved = await openSavedVm(file);
        await convertToStream.convert(saved, { output: stream });
      }
      await using destination = await startVm({ qemu: '7.2', machine: 'pc', incoming: true });
      await loadStream(destination, stream);
      assert.ok(
        (await destination.console.waitForCounterAbove(-1)) > count,
        'the guest does not count on from where it was',
      );
      assert.equal(await destination.console.checksum(), source.console.bootChecksum);
      assert.deepEqual(destination.console.torn, []);
    });
  },
);
