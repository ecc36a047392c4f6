import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCommandLine } from '../../src/launch/command-line.js';
import { knownOptions } from '../../src/launch/known-options.js';

const MIB = 2 ** 20;
const block = (idstr: string, mib: number) => ({ idstr, usedLength: mib * MIB, pagesOffset: MIB });
const firmware = [block('pc.bios', 1), block('/rom@etc/acpi/tables', 2), block('0000:00:02.0/vga.vram', 16)];

test('names of memory objects are not taken for the RAM of the machine (guests 6)', () => {
  const words = (blocks: ReturnType<typeof block>[]) =>
    formatCommandLine(knownOptions({ file: '/f', machine: 'pc-q35-10.0', blocks })).join(' ');
  assert.match(
    words([block('ram-node0', 256), block('ram-node1', 256)]),
    /id=ram-node0,size=256M .*id=ram-node1,size=256M/,
  );
  assert.match(words([block('pc.ram', 512), block('0000:00:01.0/vm0', 1024)]), /-m 512M$/);
});

test('a file tells machine type, memory and processors', () => {
  const machine = 'pc-q35-10.0';
  const words = (blocks: ReturnType<typeof block>[], processors?: number) =>
    formatCommandLine(
      knownOptions({ file: '/f', machine, blocks, ...(processors === undefined ? {} : { processors }) }),
    ).join(' ');
  assert.equal(words([block('pc.ram', 1024), ...firmware], 2), '-machine pc-q35-10.0 -m 1024M -smp 2');
  assert.equal(
    words([block('node0', 512), block('node1', 512), ...firmware]),
    '-machine pc-q35-10.0 -object memory-backend-ram,id=node0,size=512M -object memory-backend-ram,id=node1,size=512M',
  );
});
