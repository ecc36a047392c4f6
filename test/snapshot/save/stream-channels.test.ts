import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasFeature, type QemuFeatureName } from '../../../src/guest/qemu/qemu-features.js';
import type { SaveOptions } from '../../../src/snapshot/save/save.js';
import { streamChannels } from '../../../src/snapshot/save/stream-channels.js';

const qemu = (version: number) => ({
  has: (feature: QemuFeatureName) => hasFeature([Math.floor(version / 10), version % 10], feature),
});

type Wishes = Pick<SaveOptions, 'channels' | 'multifd' | 'background' | 'compression'>;

test('an old QEMU on a small host streams through one connection, unless channels are asked for', () => {
  const cases: [version: number, processors: number, wishes: Wishes, expected: number][] = [
    [72, 2, {}, 0],
    [80, 3, {}, 0],
    [72, 4, {}, 4],
    [81, 2, {}, 4],
    [72, 2, { channels: 2 }, 2],
    [72, 2, { compression: 'zlib' }, 4],
    [72, 2, { multifd: true }, 4],
    [100, 8, { multifd: false, channels: 8 }, 0],
    [100, 8, { background: true }, 0],
    [100, 8, { channels: 255 }, 16],
  ];
  for (const [version, processors, wishes, expected] of cases) {
    assert.equal(
      streamChannels(qemu(version), wishes, true, 4, processors),
      expected,
      `QEMU ${version}, ${processors} processors, ${JSON.stringify(wishes)}`,
    );
  }
});

test('where QEMU cannot connect by itself, only who asks for channels gets them, or the reason why not', () => {
  assert.equal(streamChannels(qemu(90), {}, false, 4, 8), 0);
  assert.equal(streamChannels(qemu(90), { channels: 4 }, false, 4, 8), 4);
});
