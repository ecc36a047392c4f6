/** docs/api is what the docstrings say now: `npm run docs` writes it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { exportedPaths, readPage } from './documents.js';

/** The pages below `folder`, by name. */
function pagesIn(folder: string): ReadonlyMap<string, string> {
  const names = (readdirSync(folder, { recursive: true }) as string[]).filter((name) => name.endsWith('.md'));
  return new Map(names.sort().map((name) => [name, readFileSync(path.join(folder, name), 'utf8')]));
}

test('the reference is up to date', () => {
  const folder = temporaryFolder('api');
  try {
    const script = path.join(repositoryRoot, 'scripts', 'api-reference.mjs');
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, folder], { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    const written = pagesIn(path.join(repositoryRoot, 'docs', 'api'));
    const now = pagesIn(folder);
    assert.deepEqual([...written.keys()], [...now.keys()], 'run `npm run docs`');
    for (const [name, text] of now) assert.ok(written.get(name) === text, `${name}: run \`npm run docs\``);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

for (const { specifier, source } of exportedPaths()) {
  test(`the page of ${specifier} has everything that can be imported from it`, async () => {
    const page = readPage(`docs/api/${specifier}.md`);
    const headings = new Set(
      [...page.matchAll(/^### (\S+?)(?:\(\))?$/gm)].map(([, name = '']) => name.replaceAll('\\', '')),
    );
    const names = Object.keys(await import(path.join(repositoryRoot, 'build', source)));
    assert.ok(names.length > 0, 'nothing can be imported');
    assert.deepEqual(
      names.filter((name) => !headings.has(name)),
      [],
    );
  });
}
