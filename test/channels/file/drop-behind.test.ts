/** Buffered saves: what they leave in the page cache. */

import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { FileChannels } from '../../../src/channels/file/file-channels.js';
import { cachedBytes } from '../../../src/io/file/page-cache.js';
import { createMemfd } from '../../../src/io/memory/memfd.js';
import { MemoryMap } from '../../../src/io/memory/memory-map.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { block } from '../fixtures.js';

const EXT4_MAGIC = 0xef53;
const LENGTH = 96 * 2 ** 20;
const folder = temporaryFolder('behind');
const skip = statfsSync(folder).type === EXT4_MAGIC ? false : 'no ext4: its page cache may work otherwise';

for (const dropBehind of [true, false]) {
  test(`pages ${dropBehind ? 'leave' : 'stay in'} the page cache, dropBehind ${dropBehind}`, {
    skip,
  }, async () => {
    const memory = createMemfd('guest', LENGTH);
    const file = path.join(folder, String(dropBehind));
    const fd = openSync(file, 'w+');
    try {
      {
        using map = MemoryMap.open({ fd: memory, offset: 0, length: LENGTH, writable: true });
        randomFillSync(map.view(0, LENGTH));
      }
      await using channels = await FileChannels.open({
        path: file,
        access: 'write',
        count: 2,
        direct: false,
        dropBehind,
        blocks: [block(memory, LENGTH)],
      });
      await channels.transfer();
      const share = cachedBytes(fd) / LENGTH;
      if (dropBehind) assert.ok(share <= 0.01, `${share} of the file is cached`);
      else assert.ok(share > 0.5, `only ${share} of the file is cached`);
    } finally {
      closeSync(fd);
      closeSync(memory);
    }
  });
}
