/** What callers in JavaScript may give wrongly: refused before anything is touched, with the name of the option. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import * as mapram from '../../src/index.js';
import { QmpClient } from '../../src/qmp/qmp-client.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('arguments');
const file = path.join(folder, 'vm.mapram');
const vm = path.join(folder, 'none.qmp');

type Call = (options?: unknown) => Promise<unknown>;

/** Each function that has an options object, with one that is right, apart from naming nothing that exists. */
const FUNCTIONS: Record<string, [call: Call, options: Record<string, unknown>]> = {
  save: [mapram.save as Call, { vm, file }],
  restore: [mapram.restore as Call, { vm, file }],
  resume: [mapram.resume as Call, { file }],
  planResume: [mapram.planResume as Call, { file }],
  fork: [mapram.fork as Call, { file, count: 1 }],
  'ClonePool.open': [mapram.ClonePool.open as Call, { file, size: 1 }],
  inspect: [mapram.inspect as Call, { file }],
  verify: [mapram.verify as Call, { file }],
  convert: [mapram.convert as Call, { file, to: 'elf', output: path.join(folder, 'core') }],
  diff: [mapram.diff as Call, { before: file, after: file }],
  stopVms: [mapram.stopVms as Call, { vm }],
  continueVms: [mapram.continueVms as Call, { vm }],
  quitVms: [mapram.quitVms as Call, { vm }],
  removeSnapshot: [mapram.removeSnapshot as Call, { file }],
  initStore: [mapram.initStore as Call, { place: 'dir:/nowhere/at/all' }],
  saveToStore: [mapram.saveToStore as Call, { vm, to: 'dir:/nowhere/vm' }],
  pushSnapshot: [mapram.pushSnapshot as Call, { file, to: 'dir:/nowhere/vm' }],
  pullSnapshot: [mapram.pullSnapshot as Call, { from: 'dir:/nowhere/vm', file }],
  listSnapshots: [mapram.listSnapshots as Call, { place: 'dir:/nowhere' }],
  pruneStore: [mapram.pruneStore as Call, { place: 'dir:/nowhere' }],
  removeStored: [mapram.removeStored as Call, { snapshot: 'dir:/nowhere/vm@1' }],
  verifyStored: [mapram.verifyStored as Call, { snapshot: 'dir:/nowhere/vm' }],
};

for (const [name, [call, right]] of Object.entries(FUNCTIONS)) {
  describe(`${name} checks its options (B5)`, () => {
    test('no options object', async () => {
      for (const nothing of [undefined, null, 'vm.mapram'])
        await assert.rejects(call(nothing), failsWith('USAGE', /the options must be an object, not /));
    });

    test('an option that is missing', async () => {
      for (const option of Object.keys(right)) {
        const { [option]: _, ...rest } = right;
        const pattern = new RegExp(`^${name}: the option ${option} is missing`);
        await assert.rejects(call(rest), failsWith('USAGE', pattern));
      }
    });

    test('an option of the wrong type', async () => {
      for (const option of Object.keys(right)) {
        const pattern = new RegExp(`^${name}: the option ${option} must be .*, not a function$`);
        await assert.rejects(call({ ...right, [option]: () => {} }), failsWith('USAGE', pattern));
      }
    });

    test('an option that there is not', async () => {
      const pattern = new RegExp(`^${name}: there is no option colour; `);
      await assert.rejects(call({ ...right, colour: 'red' }), failsWith('USAGE', pattern));
    });

    test('undefined is the same as absent', async () => {
      const options = { signal: undefined, offset: undefined, force: undefined, unlock: undefined };
      for (const [option, value] of Object.entries(options)) {
        await assert.rejects(call({ ...right, [option]: value }), (error: Error) => {
          assert.doesNotMatch(error.message, new RegExp(`option ${option} (must|is missing)`));
          return true;
        });
      }
    });
  });
}

test('a misspelt option is recognised, one of the command line too', async () => {
  const save = mapram.save as Call;
  const right = { vm, file };
  const near = {
    direct_io: 'directIo',
    'direct-io': 'directIo',
    channel: 'channels',
    onprogress: 'onProgress',
  };
  for (const [given, meant] of Object.entries(near))
    await assert.rejects(
      save({ ...right, [given]: 'x' }),
      failsWith('USAGE', new RegExp(`^save: there is no option ${given}; did you mean ${meant}\\?$`)),
    );
});

test('an option that has another name now is recognised', async () => {
  await assert.rejects(
    (mapram.save as Call)({ vm, file, signingKey: 'key.pem' }),
    failsWith('USAGE', /no option signingKey; it is called sign now/),
  );
  await assert.rejects(
    (mapram.save as Call)(JSON.parse(`{"vm":"${vm}","file":"${file}","then":"quit"}`)),
    failsWith('USAGE', /no option then; it is called afterwards/),
  );
  await assert.rejects(
    (mapram.fork as Call)({ file, count: 2, directory: folder }),
    failsWith('USAGE', /no option directory; it is called dir now/),
  );
  await assert.rejects(
    (mapram.resume as Call)({ file, force: true }),
    failsWith('USAGE', /no option force; allowChangedDisks lets disks have changed/),
  );
});

describe('wrong values are refused, and the guest is not touched (B5)', () => {
  const wrong: [options: object, pattern: RegExp][] = [
    [{ afterwards: 'reboot' }, /the option afterwards must be 'cont', 'stop' or 'quit', not "reboot"/],
    [{ channels: 'x' }, /the option channels must be 'auto' or a whole number from 1 to 255, not "x"/],
    [{ channels: 2.5 }, /the option channels must be a whole number from 1 to 255, not 2.5/],
    [{ channels: -3 }, /from 1 to 255, not -3/],
    [{ live: { maxTimeMs: 'x' } }, /the option live.maxTimeMs must be a whole number of at least 1, not "x"/],
    [{ live: { maxTime: 5 } }, /there is no option live.maxTime; did you mean maxTimeMs\?/],
    [{ live: 'yes' }, /the option live must be true, false or an object with limits, not "yes"/],
    [{ method: 'foo' }, /the option method must be 'auto', 'shared', .* not "foo"/],
    [{ file: '' }, /the option file must be a path that is not empty, not ""/],
    [{ file: 'a\0b' }, /the option file must be a path without NUL characters/],
    [{ signal: new AbortController() }, /the option signal must be an AbortSignal, not an object of class/],
    [{ onProgress: 'loud' }, /the option onProgress must be a function, not "loud"/],
    [{ offset: -1 }, /the option offset must be a whole number of at least 0, not -1/],
    [{ offset: Number.NaN }, /the option offset .* not NaN/],
    [{ vm: 5 }, /the option vm must be the path of a QMP socket, .* not 5/],
    [{ vm: {} }, /the option vm must be .* not an object$/],
  ];
  for (const [options, pattern] of wrong)
    test(JSON.stringify(options), async () => {
      await using guest = await BuiltinGuest.start({ size: 1 << 20 });
      const call = mapram.save as Call;
      await assert.rejects(call({ vm: guest, file, ...options }), failsWith('USAGE', pattern));
      assert.equal(guest.runState, 'running');
      assert.deepEqual(readdirSync(folder), []);
    });
});

test('the builtin guest, the QMP client and readers check what they get', async () => {
  await assert.rejects(
    (BuiltinGuest.start as Call)({ sise: 5 }),
    failsWith('USAGE', /^BuiltinGuest.start: there is no option sise; did you mean size\?/),
  );
  await assert.rejects(
    QmpClient.connect(5 as unknown as string),
    failsWith('USAGE', /^QmpClient.connect: the option target must be a socket path/),
  );
  await assert.rejects(
    QmpClient.connect(vm, { timeout: 5 } as object),
    failsWith('USAGE', /there is no option timeout; did you mean timeoutMs\?/),
  );
  await assert.rejects(
    mapram.openSavedVm(file, { unluck: {} } as object),
    failsWith('USAGE', /^openSavedVm: there is no option unluck; did you mean unlock\?/),
  );
  await assert.rejects(
    (mapram.openSavedVm as Call)(),
    failsWith('USAGE', /the option file must be .*, not undefined/),
  );
});

test('what a class of the library holds can be closed without `await using`', async () => {
  const guest = await BuiltinGuest.start({ size: 1 << 20 });
  await mapram.save({ vm: guest, file });
  const saved = await mapram.openSavedVm(file);
  await saved.close();
  await guest.close();
  for (const closable of [mapram.ResumedVm, mapram.ForkedVms, mapram.ClonePool, QmpClient, BuiltinGuest]) {
    const { prototype } = closable as unknown as { prototype: object };
    assert.ok('close' in prototype, closable.name);
    assert.ok(Symbol.asyncDispose in prototype, closable.name);
  }
});
