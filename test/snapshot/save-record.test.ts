import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { checkLeftBehind } from '../../src/doctor/left-behind.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { recordFolder } from '../../src/snapshot/guard/record-folder.js';
import { HeldRecord, takeAbandonedRecords } from '../../src/snapshot/guard/save-record.js';
import { Folder } from '../manifest/sample.js';

const record = {
  format: 1,
  file: '/var/vm.mapram',
  partPath: '/var/.vm.mapram.mapram-part',
} as const;

/** Records of a host on which nothing else is saved. */
function ownRecords(): Folder {
  const folder = new Folder();
  process.env.XDG_RUNTIME_DIR = folder.path;
  return folder;
}

test('a record is abandoned when the process that holds it has let go, and is taken once', () => {
  using _ = ownRecords();
  const held = HeldRecord.create(record);
  held.addVm({
    address: '/run/vm.qmp',
    runState: 'running',
    capabilities: { multifd: true },
    parameters: { 'max-bandwidth': 2n ** 60n },
  });
  assert.deepEqual(takeAbandonedRecords(), []);
  held[Symbol.dispose]();
  const [taken, ...others] = takeAbandonedRecords();
  assert.equal(others.length, 0);
  assert.equal(taken?.record.file, record.file);
  assert.equal(taken.record.vm?.address, '/run/vm.qmp');
  assert.deepEqual(takeAbandonedRecords(), []);
  taken.remove();
  assert.deepEqual(readdirSync(recordFolder()), []);
});

test('a record of a save that died before it touched a VM goes with its part file (F22)', async () => {
  using folder = ownRecords();
  const elsewhere = path.join(folder.path, 'elsewhere');
  mkdirSync(elsewhere);
  const partPath = partPathOf(path.join(elsewhere, 'vm'));
  const abandon = () => HeldRecord.create({ ...record, partPath })[Symbol.dispose]();
  abandon();
  assert.deepEqual((await checkLeftBehind(folder.path, { clean: false, rescue: false })).parts, []);
  assert.deepEqual(readdirSync(recordFolder()), []);
  abandon();
  writeFileSync(partPath, 'half a file');
  const seen = await checkLeftBehind(folder.path, { clean: false, rescue: false });
  assert.deepEqual(
    seen.parts.map(({ path, removed }) => [path, removed]),
    [[partPath, false]],
  );
  assert.equal(readdirSync(recordFolder()).length, 1);
  const cleaned = await checkLeftBehind(folder.path, { clean: true, rescue: false });
  assert.deepEqual(
    cleaned.parts.map(({ path, removed }) => [path, removed]),
    [[partPath, true]],
  );
  assert.deepEqual(readdirSync(recordFolder()), []);
  assert.equal(existsSync(partPath), false);
});

test('what a record notes of a VM can be taken back', () => {
  using _ = ownRecords();
  const held = HeldRecord.create(record);
  held.addVm({ address: '/run/vm.qmp', runState: 'running', capabilities: {}, parameters: {} });
  held.noteStopped(true);
  held.noteStopped(false);
  held.noteStopped(true);
  held[Symbol.dispose]();
  const [taken] = takeAbandonedRecords();
  assert.equal(taken?.record.vm?.stopped, true);
  taken.forgetVm();
  taken[Symbol.dispose]();
  const [forgotten] = takeAbandonedRecords();
  assert.deepEqual(forgotten?.record, record);
  forgotten.remove();
});

test('what was never a whole record goes when it is old enough to be nobody’s', () => {
  using _ = ownRecords();
  const [old, young] = ['old.json.new', 'young.json.new'].map((name) => path.join(recordFolder(), name)) as [
    string,
    string,
  ];
  for (const draft of [old, young]) writeFileSync(draft, '{"format":');
  utimesSync(old, 0, 0);
  assert.deepEqual(takeAbandonedRecords(), []);
  assert.equal(existsSync(old), false);
  assert.equal(existsSync(young), true);
});

test('a record that says something else, or is no file, is left alone', () => {
  using _ = ownRecords();
  writeFileSync(path.join(recordFolder(), 'a.json'), '{"format": 2}');
  writeFileSync(path.join(recordFolder(), 'b.json'), 'no JSON');
  assert.deepEqual(takeAbandonedRecords(), []);
});
