/** The examples that need no VM do what their comments say; test/qemu/examples.test.ts has the others. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { unpack } from '../analysis/unpack.js';
import { expectedOf, register } from '../golden/golden-file.js';
import { needs, repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { putExamples, putProgram, readPage } from './documents.js';

const root = temporaryFolder('examples');
before(() => putExamples(root));

test('what a save of libvirt holds is told', () => {
  const name = 'libvirt-11.3-sparse';
  const script = path.join(root, 'libvirt-save.js');
  const { stdout, stderr } = spawnSync(process.execPath, [script, unpack(root, name)], { encoding: 'utf8' });
  assert.equal(stderr, '');
  const eip = register(expectedOf(name), 'EIP').toString(16);
  for (const line of [
    'domain web, pc-i440fx-10.0, format sparse',
    'it will be paused when it is restored',
    'pc.ram: 2097152 bytes at 0x0, 64 of 512 pages with contents',
    `the first CPU is at 0x${eip}`,
  ])
    assert.ok(stdout.split('\n').includes(line), `${line}\n${stdout}`);
});

test('direct I/O is typed with socat', needs({ tools: ['socat'] }), async () => {
  const programs = path.join(root, 'programs');
  putProgram(programs, path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js'));
  const script = path.join(repositoryRoot, 'examples', 'direct-io-with-socat.sh');
  const file = path.join(root, 'by-hand.mapram');
  const { status, stdout, stderr } = spawnSync('/bin/sh', [script, file], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${programs}:${process.env.PATH}`, TMPDIR: root },
  });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /"status": ?"completed"/);
  await using image = await MappedRamImage.open(file);
  assert.equal(image.complete, true);
});

test('the page of the examples names each of them', () => {
  const page = readPage('examples/README.md');
  const files = (readdirSync(path.join(repositoryRoot, 'examples'), { recursive: true }) as string[]).filter(
    (name) => /\.(ts|sh)$/.test(name),
  );
  assert.ok(files.length >= 5);
  assert.deepEqual(
    files.filter((name) => !page.includes(`(${name})`)),
    [],
  );
});
