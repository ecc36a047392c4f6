import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { hasFeature, QEMU_FAULTS, releaseOf } from '../../../src/guest/qemu/qemu-features.js';
import { repositoryRoot } from '../../support/environment.js';

test('a release has what came with it or before', () => {
  assert.equal(hasFeature([9, 0], 'directIo'), false);
  assert.equal(hasFeature([9, 1], 'directIo'), true);
  assert.equal(hasFeature([11, 1], 'directIo'), true);
  assert.equal(releaseOf('directIo'), '9.1');
});

test('docs/compared-with-qemu.md lists the faults of the table', () => {
  const file = path.join(repositoryRoot, 'docs', 'compared-with-qemu.md');
  const rows = Object.values(QEMU_FAULTS).map(({ upTo, known, summary, workaround }) => {
    const version = known === 'seen' ? `${upTo}, seen` : `up to ${upTo}, from source`;
    return `| ${summary} | ${version} | ${workaround} |`;
  });
  const table = ['| fault | QEMU | mapram |', '|---|---|---|', ...rows].join('\n');
  const section = /(<!-- faults -->\n)([\s\S]*?)(\n?<!-- end of faults -->)/;
  const page = readFileSync(file, 'utf8');
  if (process.env.MAPRAM_UPDATE === '1') {
    writeFileSync(
      file,
      page.replace(section, (_, begin, __, end) => `${begin}\n${table}\n\n${end.trimStart()}`),
    );
  }
  assert.equal(section.exec(readFileSync(file, 'utf8'))?.[2]?.trim(), table);
});
