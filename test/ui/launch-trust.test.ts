/** From the page only what was shown and agreed to is started: nothing here starts a QEMU, but a program that leaves a mark. */
import assert from 'node:assert/strict';
import { copyFileSync, renameSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { planResume, type ResumePlan } from '../../src/snapshot/resume/resume.js';
import { Folder } from '../manifest/sample.js';
import { MarkingProgram, withConfiguration, writeLaunchFile } from '../support/launch-file.js';
import { TestUi } from './ui-client.js';

const folder = new Folder();
const program = new MarkingProgram(folder.file('program'));
let ui: TestUi;
before(async () => {
  ui = await TestUi.start();
});
after(async () => {
  await ui[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

/** A file in the list of the page; `strangers`: of somebody else's making. */
async function listed(name: string, whose: 'own' | 'strangers', launch = {}): Promise<string> {
  const file = ui.file(name);
  const write = () => writeLaunchFile(file, program.path, { launch });
  await (whose === 'own' ? write() : withConfiguration(folder.file('strangers'), write));
  await ui.ask('api/refresh', { method: 'POST' });
  return file;
}

async function shown(file: string): Promise<ResumePlan> {
  return (await ui.ask(`api/plan?file=${encodeURIComponent(file)}`)).json;
}

const operations: [kind: string, more: object][] = [
  ['resume', { qmp: folder.file('q.sock') }],
  ['fork', { count: 1 }],
];
for (const [kind, more] of operations) {
  const start = async (file: string, confirmed: string, choices: object = {}) => {
    const { error } = await ui.run({ kind, file, confirmed, ...more, ...choices });
    return { ran: program.hasRun, code: error?.code, message: error?.message ?? '' };
  };

  test(`${kind} of what this user has saved needs no more than that it was shown`, async () => {
    const file = await listed(`${kind}-own.mapram`, 'own');
    const { fingerprint, trust } = await shown(file);
    assert.deepEqual(trust, { origin: 'own' });
    assert.equal((await start(file, fingerprint)).ran, true);
  });

  test(`${kind} of what somebody else has made needs a yes (F4)`, async () => {
    const file = await listed(`${kind}-strange.mapram`, 'strangers');
    const { fingerprint, trust } = await shown(file);
    assert.equal(trust.origin, 'unknown');
    const refused = await start(file, fingerprint);
    assert.deepEqual([refused.ran, refused.code], [false, 'UNTRUSTED']);
    assert.equal((await start(file, fingerprint, { trust: true })).ran, true);
  });

  test(`${kind} starts nothing from a file that was exchanged after it was shown (F5)`, async () => {
    const file = await listed(`${kind}-exchanged.mapram`, 'strangers');
    const { fingerprint } = await shown(file);
    await withConfiguration(folder.file('strangers'), () =>
      writeLaunchFile(`${file}.new`, program.path, { launch: { workingDirectory: folder.path } }),
    );
    renameSync(`${file}.new`, file);
    for (const trust of [false, true]) {
      const refused = await start(file, fingerprint, { trust });
      assert.deepEqual([refused.ran, refused.code], [false, 'UNTRUSTED']);
    }
    assert.match(
      (await start(file, fingerprint, { trust: true })).message,
      /not be the command line that was shown/,
    );
  });

  test(`${kind} starts nothing from a copy of the file that was shown: its memory may be another (F5)`, async () => {
    const file = await listed(`${kind}-copied.mapram`, 'own');
    const { fingerprint } = await shown(file);
    copyFileSync(file, `${file}.new`);
    renameSync(`${file}.new`, file);
    const refused = await start(file, fingerprint);
    assert.deepEqual([refused.ran, refused.code], [false, 'UNTRUSTED']);
    assert.equal((await start(file, (await planResume({ file })).fingerprint)).ran, true);
  });

  test(`${kind} of another user's process is refused, and a yes does not help (F3)`, async () => {
    const uid = (process.geteuid?.() ?? 0) + 1;
    const file = await listed(`${kind}-foreign.mapram`, 'own', { uid, user: 'mallory' });
    const { fingerprint, trust } = await shown(file);
    assert.equal(trust.origin, 'foreign');
    const refused = await start(file, fingerprint, { trust: true });
    assert.deepEqual([refused.ran, refused.code], [false, 'UNTRUSTED']);
    assert.match(refused.message, /run by mallory/);
  });
}
