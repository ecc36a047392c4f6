/** The shell blocks of README and docs are true: commands exist, take what they are given, and do what needs no VM. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { repositoryRoot } from '../support/environment.js';
import { codeBlocks, pages, putFiles, putProgram, readPage } from './documents.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'mapram-docs-'));
after(() => rmSync(root, { recursive: true }));
const programs = path.join(root, 'programs');

before(() => {
  putProgram(programs, path.join(import.meta.dirname, 'mapram-shim.js'));
});

let count = 0;
for (const { where, code: script } of pages.flatMap((page) => codeBlocks(page, 'sh', 'bash', 'shell'))) {
  test(where, () => {
    const folder = path.join(root, String(++count));
    mkdirSync(folder);
    putFiles(folder, script);
    // Other programs need not be here: what is shown of them is their documentation's to keep.
    const preamble = 'command_not_found_handle() { return 0; }\nset -e\n';
    const { status, stderr } = spawnSync('/bin/bash', ['-c', preamble + script], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: programs, HOME: root, TMPDIR: root },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    rmSync(folder, { recursive: true });
    const complaints = stderr
      .split('\n')
      .filter((line) => line.startsWith('mapram: ') && !line.startsWith('mapram: warning'));
    // Differences between files are no failure of the document.
    const real = complaints.filter((line) => !line.endsWith('they differ'));
    assert.deepEqual(real, [], `${where}\n${stderr}`);
    assert.ok(status === 0 || complaints.length > real.length, `${where}: exit code ${status}\n${stderr}`);
  });
}

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
