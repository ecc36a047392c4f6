/** The shell blocks of README and docs do what they say: those that need no VM here, the others in test/qemu/documents.test.ts. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { render } from '../monitor/terminal.js';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import {
  codeBlocks,
  isFirstTry,
  needsVm,
  pages,
  putFiles,
  putProgram,
  readPage,
  sessions,
  shapeOf,
} from './documents.js';

const root = temporaryFolder('docs');
const programs = path.join(root, 'programs');
const env = { ...process.env, PATH: `${programs}:${process.env.PATH}`, TMPDIR: root };

before(() => {
  putProgram(programs, path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js'));
});

let count = 0;
function newFolder(): string {
  const folder = path.join(root, String(++count));
  mkdirSync(folder);
  return folder;
}

const blocks = pages.flatMap((page) => codeBlocks(page, 'sh', 'bash', 'shell'));

for (const block of blocks.filter((each) => !needsVm(each) && !isFirstTry(each))) {
  test(block.where, () => {
    const folder = newFolder();
    putFiles(folder, block.code);
    const { status, stdout, stderr } = spawnSync('/bin/bash', ['-euc', block.code], {
      cwd: folder,
      encoding: 'utf8',
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    assert.equal(status, 0, stdout + stderr);
  });
}

const needsScript = { skip: spawnSync('script', ['--version']).status !== 0 && 'needs script of util-linux' };

for (const { where, command, shown } of pages
  .flatMap(sessions)
  .filter((each) => /\bmonitor\b/.test(each.command))) {
  test(`${where}: on a terminal`, needsScript, () => {
    const typed = [...shown.matchAll(/^\(qemu\) (.*)$/gm)].map(([, line]) => `${line}\n`);
    const { status, stdout, stderr } = spawnSync('script', ['-qefc', command, '/dev/null'], {
      cwd: newFolder(),
      encoding: 'utf8',
      env: { ...env, TERM: 'xterm' },
      input: `${typed.join('')}quit\n`,
    });
    assert.equal(status, 0, stdout + stderr);
    // What was typed before the monitor was there is echoed by the terminal itself.
    const screen = render(stdout.replaceAll('\r\n', '\n')).replace(/^[\s\S]*?(?=QEMU )/, '');
    assert.match(screen, shapeOf(shown));
  });
}

test('whatever a reader types is marked as such, so that it is carried out', () => {
  const command = /^(?:\$ |(?:sudo )?(?:mapram|npm|npx|node|virsh|qemu-\S+|gdb|cd|cp|rm|curl) )/m;
  const others = pages
    .flatMap((page) => codeBlocks(page))
    .filter(({ language }) => !['sh', 'bash', 'shell', 'console'].includes(language))
    // What is typed in the guest, and what the examples' own test does.
    .filter(({ code }) => command.test(code) && !/^cd \/sys\/|^node service\.ts /.test(code));
  assert.deepEqual(others, []);
  const kinds = /^(?:mapram monitor builtin|mapram verify vm\.mapram )/;
  assert.deepEqual(
    pages.flatMap(sessions).filter(({ command: typed }) => !kinds.test(typed)),
    [],
    'no test carries these out',
  );
});

test('links between documents lead somewhere', () => {
  const broken = [...pages, 'CONTRIBUTING.md'].flatMap((page) =>
    [...readPage(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => !existsSync(path.join(repositoryRoot, path.dirname(page), target)))
      .map((target) => `${page}: ${target}`),
  );
  assert.deepEqual(broken, []);
});
