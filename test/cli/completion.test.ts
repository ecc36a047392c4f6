import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { commandTree } from '../../src/cli/command-tree.js';
import { completionScript, SHELLS } from '../../src/cli/completion.js';
import { createProgram } from '../../src/cli/program.js';
import { allCommands } from '../../src/cli/registry.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('completion');
mkdirSync(path.join(root, 'empty'));
writeFileSync(path.join(root, 'empty', 'vm.mapram'), '');

const tree = commandTree(createProgram(await allCommands()));
const scripts = Object.fromEntries(
  SHELLS.map((shell) => {
    const file = path.join(root, `mapram.${shell}`);
    writeFileSync(file, completionScript(shell, tree));
    return [shell, file];
  }),
);

/** Options for a test that needs a shell. */
const needs = (shell: string) =>
  spawnSync(shell, ['-c', 'true']).status === 0 ? {} : { skip: `${shell} is not installed here` };

function run(shell: string, args: string[], script: string): string {
  const { status, stdout, stderr } = spawnSync(shell, args, {
    cwd: path.join(root, 'empty'),
    encoding: 'utf8',
    input: script,
    env: { ...process.env, HOME: root },
  });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout;
}

for (const shell of SHELLS) {
  test(`${shell}: the script is valid, and is what the command prints`, needs(shell), async () => {
    run(shell, ['-n', scripts[shell] as string], '');
    const { code, stdout } = await runCli(['completion', shell]);
    assert.equal(code, 0);
    assert.equal(stdout, completionScript(shell, tree));
  });

  test(`${shell}: the script knows every option of every command`, () => {
    const script = completionScript(shell, tree);
    for (const { name, options } of tree.commands) {
      assert.match(script, new RegExp(`\\b${name}\\b`));
      for (const { long } of options) assert.ok(script.includes(long.slice(2)), `${name} ${long}`);
    }
  });
}

describe('bash completes', needs('bash'), () => {
  const complete = (...words: string[]) =>
    run(
      'bash',
      ['-s', '--', ...words],
      `source ${scripts.bash}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mapram; printf '%s\\n' "\${COMPREPLY[@]}"`,
    )
      .trim()
      .split('\n');

  test('commands', () => assert.deepEqual(complete('mapram', 'ins'), ['inspect']));
  test('options of the command', () => {
    assert.deepEqual(complete('mapram', 'save', '--dir'), ['--direct-io']);
    assert.deepEqual(complete('mapram', 'inspect', '--dir'), ['']);
  });
  test('values that are chosen from', () => {
    assert.deepEqual(complete('mapram', 'save', '--direct-io', ''), ['auto', 'on', 'off']);
    assert.deepEqual(complete('mapram', 'completion', 'f'), ['fish']);
  });
  test('files, but not where a number stands', () => {
    assert.deepEqual(complete('mapram', 'inspect', ''), ['vm.mapram']);
    assert.deepEqual(complete('mapram', 'save', '--channels', ''), ['']);
  });
  test('files behind --', () => assert.deepEqual(complete('mapram', 'save', '--', 'v'), ['vm.mapram']));
});

describe('fish completes', needs('fish'), () => {
  const complete = (line: string) =>
    run('fish', ['-c', `source ${scripts.fish}; complete -C '${line}'`], '')
      .trim()
      .split('\n')
      .map((answer) => answer.split('\t')[0]);

  test('commands', () => assert.deepEqual(complete('mapram ins'), ['inspect']));
  test('options of the command', () => assert.deepEqual(complete('mapram save --dir'), ['--direct-io']));
  test('values that are chosen from', () =>
    assert.deepEqual(complete('mapram save --direct-io '), ['auto', 'off', 'on']));
  test('files', () => assert.deepEqual(complete('mapram inspect '), ['vm.mapram']));
});
