import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { optionsPage } from './options-page.js';

test('docs/options.md says what the tables say', () => {
  const file = new URL('../../../docs/options.md', import.meta.url);
  if (process.env.MAPRAM_UPDATE === '1') writeFileSync(file, optionsPage());
  assert.equal(readFileSync(file, 'utf8'), optionsPage());
});
