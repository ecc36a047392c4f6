/** The shell blocks of README and docs are true: commands exist, take what they are given, and do what needs no VM. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { goldenBytes } from '../golden/golden-file.js';
import { repositoryRoot } from '../support/environment.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'mapram-docs-'));
after(() => rmSync(root, { recursive: true }));
const programs = path.join(root, 'programs');

interface Block {
  /** `docs/page.md:12` */
  readonly where: string;
  readonly script: string;
}

const pages = [
  'README.md',
  ...readdirSync(path.join(repositoryRoot, 'docs')).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'));

function blocksOf(page: string): Block[] {
  const text = readFileSync(path.join(repositoryRoot, page), 'utf8');
  return [...text.matchAll(/^```(?:sh|bash|shell)\n(.*?)^```$/gms)].map(({ index, 1: script = '' }) => ({
    where: `${page}:${text.slice(0, index).split('\n').length}`,
    script,
  }));
}

/** Files that the documents speak of, and the golden file that each stands for. */
const FILES: Readonly<Record<string, string>> = {
  'vm.img': 'pc-10.0-mapped-ram',
  'vm.mapram': 'pc-10.0-mapped-ram',
  'monday.img': 'pc-10.0-mapped-ram',
  'before.img': 'pc-10.0-mapped-ram',
  'tuesday.img': 'pc-10.0-mapped-ram-live',
  'after.img': 'pc-10.0-mapped-ram-live',
  'old.stream': 'pc-10.0-stream',
  'after.stream': 'pc-10.0-stream',
};

function prepare(folder: string, script: string): void {
  mkdirSync(folder);
  for (const [name, golden] of Object.entries(FILES))
    if (script.includes(name)) writeFileSync(path.join(folder, name), goldenBytes(golden));
}

before(() => {
  mkdirSync(programs);
  const shim = path.join(import.meta.dirname, 'mapram-shim.js');
  writeFileSync(path.join(programs, 'mapram'), `#!/bin/sh\nexec '${process.execPath}' '${shim}' "$@"\n`);
  chmodSync(path.join(programs, 'mapram'), 0o755);
});

let count = 0;
for (const { where, script } of pages.flatMap(blocksOf)) {
  test(where, () => {
    const folder = path.join(root, String(++count));
    prepare(folder, script);
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
  const broken: string[] = [];
  for (const page of [...pages, 'CONTRIBUTING.md']) {
    const text = readFileSync(path.join(repositoryRoot, page), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      try {
        readFileSync(path.join(repositoryRoot, path.dirname(page), target));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EISDIR') broken.push(`${page}: ${target}`);
      }
    }
  }
  assert.deepEqual(broken, []);
});
