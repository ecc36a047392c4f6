import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { save } from '../../src/snapshot/save/save.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('test');

for (const moment of ['before it begins', 'RAM pass 1', 'syncing'] as const) {
  test(`a save that is cancelled leaves no file, and the guest running: ${moment}`, async () => {
    await using guest = await BuiltinGuest.start({ size: 16 << 20 });
    const file = path.join(folder, moment);
    const abort = new AbortController();
    if (moment === 'before it begins') abort.abort();
    const phases = new Set<string>();
    const saving = save({
      vm: guest,
      file,
      signal: abort.signal,
      onProgress: ({ phase }) => {
        phases.add(phase);
        if (phase === moment) abort.abort();
      },
    });
    await assert.rejects(saving, failsWith('CANCELLED', `saving to ${file}: cancelled`));
    assert.equal(guest.runState, 'running');
    assert.deepEqual(readdirSync(folder), []);
    if (moment !== 'before it begins') assert.ok(phases.has(moment), `only ${[...phases]}`);
  });
}

test('a save that is cancelled keeps the file that was there', async () => {
  await using guest = await BuiltinGuest.start({ size: 16 << 20 });
  const file = path.join(folder, 'older');
  writeFileSync(file, 'older');
  const abort = new AbortController();
  const onProgress = () => abort.abort();
  await assert.rejects(
    save({ vm: guest, file, force: true, signal: abort.signal, onProgress }),
    failsWith('CANCELLED'),
  );
  assert.deepEqual(readdirSync(folder), ['older']);
});
