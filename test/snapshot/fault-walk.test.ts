/** Whatever call fails in a save or a load: the guest goes on, the file is the old one or a whole one, nothing leaks. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { type Fault, installFaults } from '../../src/io/faults.js';
import { removeLeftOver } from '../../src/snapshot/files/left-over-parts.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { Folder } from '../manifest/sample.js';
import { describeFault, faultsOf, NUISANCES, resourcesInUse } from '../trust/fault-walk.js';

const GUEST = { size: 2 << 20 } as const;

/** Undefined when it went well. */
async function failureOf(run: () => Promise<unknown>, fault: Fault): Promise<unknown> {
  using _ = installFaults([fault]);
  return await run().then(
    () => undefined,
    (error: unknown) => error,
  );
}

for (const live of [false, true]) {
  test(`saving ${live ? 'live' : 'stopped'}`, async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    await using vm = await BuiltinGuest.start({ ...GUEST, begin: 'running' });
    const run = () => save({ vm, file, live, force: true, channels: 2 });
    await run();
    const faults = await faultsOf(run, { most: live ? 3 : 9 });
    assert.ok(faults.length > (live ? 15 : 25), `${faults.length} places`);
    const before = await resourcesInUse();
    let failures = 0;
    for (const fault of [...faults, ...NUISANCES]) {
      const where = describeFault(fault);
      const old = readFileSync(file);
      const { ino } = statSync(file);
      const failure = await failureOf(run, fault);
      if (NUISANCES.includes(fault)) assert.equal(failure, undefined, where);
      if (failure !== undefined) {
        failures++;
        assert.ok(failure instanceof MapramError, `${where}: ${failure}`);
        assert.doesNotMatch(failure.message, /\n/);
        if (statSync(file).ino === ino) assert.ok(readFileSync(file).equals(old), where);
      }
      assert.deepEqual((await verify({ file, channels: 1 })).problems, [], where);
      assert.equal(vm.runState, 'running', where);
      if (fault.call === 'unlink') removeLeftOver(partPathOf(file));
      assert.deepEqual(readdirSync(folder.path), ['vm'], where);
      assert.deepEqual(await resourcesInUse(), before, where);
    }
    assert.ok(failures > 8, `only ${failures} of ${faults.length} made the save fail`);
  });
}

test('loading', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  {
    await using vm = await BuiltinGuest.start({ ...GUEST, begin: 'running' });
    await save({ vm, file, channels: 2 });
  }
  const load = async (vm: BuiltinGuest) => restore({ file, vm, verify: true, channels: 2 });
  const start = () => BuiltinGuest.start({ ...GUEST, begin: 'incoming' });
  let faults: Fault[];
  {
    await using vm = await start();
    faults = await faultsOf(() => load(vm), { most: 5 });
  }
  const before = await resourcesInUse();
  for (const fault of [...faults, ...NUISANCES]) {
    const where = describeFault(fault);
    {
      await using vm = await start();
      const failure = await failureOf(() => load(vm), fault);
      if (failure === undefined) assert.ok((await vm.checkMemory()).ok, where);
      else assert.ok(failure instanceof MapramError, `${where}: ${failure}`);
      if (NUISANCES.includes(fault)) assert.equal(failure, undefined, where);
    }
    assert.deepEqual(await resourcesInUse(), before, where);
  }
});
