/** The examples that need no VM do what their comments say; test/qemu/examples.test.ts has the others. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { unpack } from '../analysis/unpack.js';
import { expectedOf, register } from '../golden/golden-file.js';
import { needs, repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { putExamples, putProgram, readPage } from './documents.js';

const CLI = path.resolve(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');
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

const systemd = path.join(repositoryRoot, 'examples', 'systemd');
const units = readdirSync(systemd);

test('units start commands that mapram has, with options that these have', () => {
  const lines = units.flatMap(
    (name) => readFileSync(path.join(systemd, name), 'utf8').match(/(?<=^ExecStart=mapram ).*/gm) ?? [],
  );
  assert.ok(lines.length >= 3);
  for (const line of lines) {
    const [command = '', ...words] = line.split(' ');
    const help = spawnSync(process.execPath, [CLI, command, '--help'], { encoding: 'utf8' }).stdout;
    assert.match(help, new RegExp(`^Usage: mapram ${command} `));
    for (const option of words.filter((word) => word.startsWith('--'))) {
      assert.ok(help.includes(`${option} `) || help.includes(`${option}\n`), `${command} ${option}`);
    }
  }
});

const analyze = spawnSync('systemd-analyze', ['--version']).status === 0;
test('systemd accepts the units', { skip: !analyze && 'needs systemd-analyze' }, () => {
  const folder = path.join(root, 'units');
  mkdirSync(folder);
  for (const name of units) {
    // Where mapram is installed is no matter of the unit.
    const text = readFileSync(path.join(systemd, name), 'utf8').replaceAll(
      /^(ExecStart=)mapram /gm,
      '$1/bin/true ',
    );
    writeFileSync(path.join(folder, name), text);
  }
  const files = units.map((name) => path.join(folder, name.replace('@.', '@web.')));
  for (const [index, name] of units.entries()) {
    if (name.includes('@.')) copyFileSync(path.join(folder, name), files[index] as string);
  }
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], {
    encoding: 'utf8',
  });
  // It also names what is wrong with units of the host.
  assert.deepEqual(
    stderr.split('\n').filter((line) => line.includes('mapram')),
    [],
  );
  assert.equal(status, 0, stderr);
});

test('the page of the examples names each of them', () => {
  const page = readPage('examples/README.md');
  const files = (readdirSync(path.join(repositoryRoot, 'examples'), { recursive: true }) as string[]).filter(
    (name) => /\.(ts|sh)$/.test(name),
  );
  assert.ok(files.length >= 5, `length: ${files.length}`);
  assert.deepEqual(
    files.filter((name) => !page.includes(`(${name})`)),
    [],
  );
});
