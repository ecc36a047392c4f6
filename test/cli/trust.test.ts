/** Trust in what files say that is to be run: the command `trust`, and the question on a terminal. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { Folder } from '../manifest/sample.js';
import { MarkingProgram, withConfiguration, writeLaunchFile } from '../support/launch-file.js';
import { runCli } from './run-cli.js';

const folder = new Folder();
after(() => folder[Symbol.dispose]());
const env = { XDG_CONFIG_HOME: folder.file('configuration') };
const MAIN = path.join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');
const needsScript = { skip: spawnSync('script', ['--version']).status !== 0 && 'needs script of util-linux' };

test('keys of signers are added, listed and removed', async () => {
  const [first, second] = ['a.pub', 'b.pub'].map((name) => {
    const { publicKey } = generateKeyPairSync('ed25519');
    writeFileSync(folder.file(name), publicKey.export({ type: 'spki', format: 'pem' }));
    return {
      name,
      publicKey: Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64'),
    };
  });
  const json = async (...args: string[]) => (await runCli(['trust', ...args, '--json'], { env })).result;
  assert.deepEqual(await json('--list'), { result: 'trust', keys: [] });
  assert.deepEqual(await json(folder.file('a.pub')), { result: 'trust', added: first, keys: [first] });
  assert.deepEqual(await json(folder.file('b.pub')), {
    result: 'trust',
    added: second,
    keys: [first, second],
  });
  assert.deepEqual(await json('--remove', folder.file('a.pub')), {
    result: 'trust',
    removed: first,
    keys: [second],
  });
  const { stdout } = await runCli(['trust', '--list'], { env });
  assert.match(stdout, /b\.pub/);
  const refused = await runCli(['trust', '--remove', folder.file('a.pub')], { env });
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /it is not trusted/);
});

test('exactly one thing is asked of the command trust', async () => {
  for (const args of [[], ['key.pub', '--list'], ['--list', '--remove', 'key.pub']]) {
    const { code, stderr } = await runCli(['trust', ...args], { env });
    assert.equal(code, 2);
    assert.match(stderr, /give a key, --list or --remove KEY, one of them/);
  }
});

/** `resume` of a file that somebody else has made, on a terminal on which `answer` is typed. */
async function resumeOnTerminal(
  answer: string,
): Promise<{ shown: string; ran: boolean; code: number | null }> {
  const program = new MarkingProgram(folder.file('program'));
  const file = folder.file('foreign.mapram');
  await withConfiguration(folder.file('strangers'), () => writeLaunchFile(file, program.path));
  const { stdout, status } = spawnSync(
    'script',
    ['-qec', `${process.execPath} ${MAIN} resume ${file}`, '/dev/null'],
    {
      input: answer,
      encoding: 'utf8',
      env: { ...process.env, ...env, TERM: 'dumb' },
    },
  );
  return { shown: stdout.replaceAll('\r', ''), ran: program.hasRun, code: status };
}

test(
  'on a terminal the command line of somebody else is shown, and run after a yes (F4)',
  needsScript,
  async () => {
    const { shown, ran } = await resumeOnTerminal('y\n');
    assert.match(shown, /somebody else may have written that: it was not recorded by this user/);
    assert.match(shown, /\/program\/qemu-system-x86_64 -machine mapram-builtin/);
    assert.match(shown, /Run it\? \[y\/N\]/);
    assert.equal(ran, true);
  },
);

test('without a yes it is not run (F4)', needsScript, async () => {
  for (const answer of ['\n', 'n\n', 'yesterday\n']) {
    const { shown, ran, code } = await resumeOnTerminal(answer);
    assert.match(shown, /mapram: resuming .*not run unasked/);
    assert.deepEqual([ran, code], [false, 1]);
  }
});

test('where nobody can be asked, the error names --trust, with which it is run (F4)', async () => {
  const program = new MarkingProgram(folder.file('program'));
  const file = folder.file('foreign.mapram');
  await withConfiguration(folder.file('strangers'), () => writeLaunchFile(file, program.path));
  for (const command of [['resume'], ['fork', '--count', '1']]) {
    const { result, code } = await runCli([...command, file, '--json'], { env });
    assert.equal(code, 1);
    const { code: reason, message } = result.error as { code: string; message: string };
    assert.equal(reason, 'UNTRUSTED');
    assert.match(message, /--print, then use --trust, "mapram trust KEY"/);
    assert.equal(program.hasRun, false);
    await runCli([...command, file, '--trust', '--json'], { env });
    assert.equal(program.hasRun, true);
  }
});
