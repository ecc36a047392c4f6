/** The counters of `query-migrate`, which add up as those of QEMU 10.0 do. */

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { withoutManifest } from '../../src/manifest/description-text.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import type { MigrationInfo, MigrationRamInfo } from '../../src/qmp/qmp-commands.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** The word at the end of each round over RAM. */
const MARK_BYTES = 8;

for (const begin of ['running', 'paused'] as const) {
  for (const multifd of [false, true]) {
    test(`a guest that is ${begin}, multifd ${multifd ? 'on' : 'off'}`, async (t) => {
      const folder = temporaryFolder('test');
      const file = join(folder, 'vm.mapram');
      const profile = qemuProfile('10.0');
      const guest = await BuiltinGuest.start({ size: 32 << 20, fill: 20, dirtyRate: 1 << 20, begin });
      const monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
      t.after(async () => {
        await monitor.close();
        rmSync(folder, { recursive: true, force: true });
      });
      const query = async () => (await monitor.execute('query-migrate', {})) as MigrationInfo;
      const capabilities = ['mapped-ram', ...(multifd ? ['multifd'] : [])].map((capability) => ({
        capability,
        state: true,
      }));
      await monitor.execute('migrate-set-capabilities', {
        capabilities: capabilities as unknown as JsonObject[],
      });
      await monitor.execute('migrate', { uri: `file:${file}` });
      while ((await query()).status !== 'completed') await sleep(5);
      const { ram } = (await query()) as { ram: MigrationRamInfo };

      await using image = await MappedRamImage.open(file);
      const bitmaps = image.blocks.reduce((total, { bitmap }) => total + bitmap.bytes.byteLength, 0);
      const moved = ram['multifd-bytes'] + ram['precopy-bytes'] + ram['downtime-bytes'];
      const marks = ram['dirty-sync-count'] + 1;
      assert.equal(moved, ram['normal-bytes'] + bitmaps + marks * MARK_BYTES);
      assert.equal(ram['multifd-bytes'], multifd ? ram['normal-bytes'] : 0);
      if (begin === 'paused') assert.equal(ram['precopy-bytes'], 0);
      else if (multifd) assert.equal(ram['precopy-bytes'], (marks - 2) * MARK_BYTES);
      else assert.ok(ram['precopy-bytes'] >= ram['normal-bytes'] / 2, `the value: ${ram['precopy-bytes']}`);
      assert.ok(ram['downtime-bytes'] >= bitmaps + 2 * MARK_BYTES, `the value: ${ram['downtime-bytes']}`);

      const { tailOffset = 0, blocks } = image;
      const head = Math.min(...blocks.map(({ bitmapOffset }) => bitmapOffset));
      // The manifest is not the VM's: it comes when the migration has ended.
      const { descriptionText = '' } = image.tail;
      const manifest =
        Buffer.byteLength(descriptionText) - Buffer.byteLength(await withoutManifest(descriptionText));
      const tail = image.source.byteLength - tailOffset - manifest;
      assert.ok(ram.transferred > moved + tail, `transferred: ${ram.transferred}`);
      assert.ok(ram.transferred < moved + tail + head + 1024, `transferred: ${ram.transferred}`);

      // What the guest does afterwards is no part of it.
      await monitor.execute('cont', {});
      assert.deepEqual((await query()).ram, ram);
    });
  }
}
