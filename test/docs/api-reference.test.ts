/** docs/api is what the docstrings say now: `node scripts/api-reference.mjs` writes it anew. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import * as mapram from '../../src/index.js';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { readPage } from './documents.js';

const written = readPage('docs/api/README.md');

test('the reference is up to date', () => {
  const folder = temporaryFolder('api');
  try {
    const script = path.join(repositoryRoot, 'scripts', 'api-reference.mjs');
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, folder], { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    const now = readFileSync(path.join(folder, 'README.md'), 'utf8');
    assert.ok(now === written, 'run `npm run docs`');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('it tells of everything that can be imported', () => {
  const headings = new Set(
    [...written.matchAll(/^### (\S+?)(?:\(\))?$/gm)].map(([, name = '']) => name.replaceAll('\\', '')),
  );
  assert.deepEqual(
    Object.keys(mapram).filter((name) => !headings.has(name)),
    [],
  );
});
