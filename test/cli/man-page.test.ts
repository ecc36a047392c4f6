import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { commandTree } from '../../src/cli/command-tree.js';
import { manPage } from '../../src/cli/man-page.js';
import { createProgram } from '../../src/cli/program.js';
import { allCommands } from '../../src/cli/registry.js';

const tree = commandTree(createProgram(await allCommands()));

test('every command has examples of itself in its help', () => {
  for (const { name, notes } of tree.commands) {
    if (name === 'help') continue;
    assert.match(notes, new RegExp(`mapram ${name}\\b`), `${name} --help shows no example`);
  }
});

const groff = spawnSync('groff', ['--version']).status === 0 ? {} : { skip: 'groff is not installed here' };

test('the manual page is set without a warning and tells every command and option', groff, () => {
  const { status, stdout, stderr } = spawnSync('groff', ['-man', '-Tascii', '-ww', '-P-cbou', '-rLL=200n'], {
    encoding: 'utf8',
    input: manPage(tree),
  });
  assert.deepEqual([status, stderr], [0, '']);
  for (const { name, options, arguments: args } of tree.commands) {
    assert.ok(stdout.includes(`mapram ${name}`), name);
    for (const { flags } of options) assert.ok(stdout.includes(flags), `${name} ${flags}`);
    for (const argument of args) assert.ok(stdout.includes(argument.name), `${name} ${argument.name}`);
  }
});
