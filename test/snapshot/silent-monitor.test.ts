/** A monitor that falls silent: a save that is given up ends, and leaves the VM to its guard. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { failsWith } from '../support/fails-with.js';
import { SilentQemu } from '../support/silent-qemu.js';
import { writeBuiltinImage } from './builtin-image.js';

const CLI = path.resolve(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');
/** More than a save by any method asks. */
const MOST_COMMANDS = 40;

for (const method of ['native', 'stream'] as const) {
  test(`a save by ${method} is cancelled whatever command has no answer (F12)`, async (context) => {
    const ends = await Promise.all(
      Array.from({ length: MOST_COMMANDS }, (_, answers) => cancelWhenSilent(answers + 1, method)),
    );
    const silent = ends.filter((end) => end === 'cancelled').length;
    context.diagnostic(`${silent} commands`);
    assert.ok(silent >= 15, `${silent} commands`);
  });
}

/** @returns `cancelled`, or `over` where the save ended, well or not, before so many commands */
async function cancelWhenSilent(answers: number, method: 'native' | 'stream'): Promise<'cancelled' | 'over'> {
  await using qemu = await SilentQemu.start(answers);
  const abort = new AbortController();
  const reason = new MapramError('CANCELLED', 'given up');
  const saving = save({
    vm: qemu.qmpPath,
    file: path.join(qemu.folder, 'vm'),
    method,
    ...(method === 'stream' ? { multifd: false } : {}),
    signal: abort.signal,
    onWarning() {},
  }).then(
    () => undefined,
    (error: unknown) => error as Error,
  );
  const first = await Promise.race([qemu.silent.then(() => 'silent'), saving]);
  if (first !== 'silent') return 'over';
  abort.abort(reason);
  const error = await saving;
  // This QEMU writes nothing: a save that comes to its end finds an empty file.
  const isEmptyFile = error instanceof MapramError && error.code === 'FORMAT';
  assert.ok(error === reason || isEmptyFile, `after ${answers} answers: ${error}`);
  assert.equal(existsSync(path.join(qemu.folder, 'vm')), false);
  return 'cancelled';
}

for (const answers of [1, 6, 12]) {
  test(`the command ends by one SIGTERM when its monitor has fallen silent after ${answers} answers (F12)`, async () => {
    await using qemu = await SilentQemu.start(answers);
    const child = spawn(
      process.execPath,
      [CLI, 'save', qemu.qmpPath, path.join(qemu.folder, 'vm'), '--method', 'stream'],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, XDG_RUNTIME_DIR: qemu.folder } },
    );
    let said = '';
    child.stderr.on('data', (text) => {
      said += text;
    });
    await qemu.silent;
    child.kill('SIGTERM');
    const [code] = await once(child, 'close');
    assert.equal(code, 143, said);
    assert.match(said, /cancelled by SIGTERM/);
  });
}

for (const [what, answers] of [
  ['save', 8],
  ['restore', 1],
] as const) {
  test(`a QEMU that has been silent for 10 s is reported by ${what} (R03)`, async () => {
    await using qemu = await SilentQemu.start(answers);
    const file = path.join(qemu.folder, 'vm');
    if (what === 'restore') await writeBuiltinImage(file);
    const abort = new AbortController();
    const warnings: string[] = [];
    const common = {
      file,
      vm: qemu.qmpPath,
      signal: abort.signal,
      onWarning: (text: string) => {
        warnings.push(text);
        if (text.includes('10 s')) abort.abort(new MapramError('CANCELLED', 'given up'));
      },
    };
    await assert.rejects(
      what === 'save' ? save(common) : restore(common),
      failsWith('CANCELLED', /given up/),
    );
    assert.match(warnings.join('\n'), /^QEMU has not answered [a-z-]+ for 10 s$/m);
  });
}

test('a native save that is cancelled while the disk hangs lets the guest run, and then waits for the disk (R09)', async () => {
  await using qemu = await SilentQemu.start(Number.POSITIVE_INFINITY, { slowDisk: true });
  const abort = new AbortController();
  const saving = save({
    vm: qemu.qmpPath,
    file: path.join(qemu.folder, 'vm'),
    method: 'native',
    signal: abort.signal,
    onProgress: () => abort.abort(new MapramError('CANCELLED', 'given up')),
  });
  await assert.rejects(saving, failsWith('CANCELLED', /given up/));
  const afterwards = qemu.commands.slice(qemu.commands.indexOf('migrate'));
  const first = (command: string) => afterwards.indexOf(command);
  assert.ok(first('cont') > 0, 'the guest was not continued');
  assert.ok(first('cont') < first('migrate-set-parameters'), afterwards.join(' '));
  assert.ok(!afterwards.includes('migrate_cancel'), 'of which QEMU may die');
});
