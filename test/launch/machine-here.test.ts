import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { machineHere } from '../../src/launch/machine-here.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('machine-here');
const searchPath = process.env.PATH;
after(() => {
  process.env.PATH = searchPath;
  rmSync(folder, { recursive: true, force: true });
});

/** Puts a program alone on the PATH that prints this and leaves a file `asked` beside it. @returns its path */
function install(name: string, printed: string): string {
  const place = path.join(folder, name);
  mkdirSync(place, { recursive: true });
  const program = path.join(place, 'qemu-system-x86_64');
  writeFileSync(program, `#!/bin/sh\n: > '${place}/asked'\nprintf '%s' '${printed}'\n`, { mode: 0o755 });
  process.env.PATH = place;
  return program;
}

const LIST = `Supported machines are:
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-10.0)
pc-i440fx-7.0        Standard PC (i440FX + PIIX, 1996) (deprecated)
pc-q35-8.0           Standard PC (Q35 + ICH9, 2009)
`;

test('the QEMU on the PATH is asked for a machine type that may be deprecated or gone', async () => {
  const program = install('listing', LIST);
  assert.deepEqual(await machineHere('pc-i440fx-7.0'), { program, state: 'deprecated' });
  assert.deepEqual(await machineHere('pc-q35-8.0'), { program, state: 'there' });
  assert.deepEqual(await machineHere('pc-q35-7.0'), { program, state: 'missing' });
});

test('no program is run for a machine type that every known QEMU has, or whose architecture is open', async () => {
  install('unasked', LIST);
  for (const machine of ['pc-q35-10.0', 'virt-6.0', 'microvm', 'mapram-builtin-1.0', '']) {
    assert.equal(await machineHere(machine), undefined, machine);
  }
  assert.equal(existsSync(path.join(folder, 'unasked', 'asked')), false);
});

test('nothing is said where no QEMU answers', async () => {
  install('other', 'hello');
  assert.equal(await machineHere('pc-q35-7.0'), undefined);
  process.env.PATH = path.join(folder, 'nothing');
  assert.equal(await machineHere('pc-q35-7.0'), undefined);
});
