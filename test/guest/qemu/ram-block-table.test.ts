import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRamBlocks } from '../../../src/guest/qemu/ram-block-table.js';
import { failsWith } from '../../support/fails-with.js';

test('the table of QEMU 10.0 with host addresses', () => {
  const text = [
    '              Block Name    PSize              Offset               Used              Total                HVA  RO',
    '                    mem0    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x00007f4a7ffff000  rw',
    '    /rom@etc/acpi/tables    4 KiB  0x0000000008080000 0x0000000000020000 0x0000000000200000 0x00007f4acca00000  ro',
    '',
  ].join('\r\n');
  assert.deepEqual(parseRamBlocks(text), [
    { idstr: 'mem0', usedLength: 0x8000000, totalLength: 0x8000000, hostAddress: 0x7f4a7ffff000n },
    {
      idstr: '/rom@etc/acpi/tables',
      usedLength: 0x20000,
      totalLength: 0x200000,
      hostAddress: 0x7f4acca00000n,
    },
  ]);
});

test('the table of older versions without them, and names with blanks', () => {
  const text = '              my ram    2 MiB  0x0000000000000000 0x0000000008000000 0x0000000008000000\r\n';
  assert.deepEqual(parseRamBlocks(text), [
    { idstr: 'my ram', usedLength: 0x8000000, totalLength: 0x8000000 },
  ]);
});

test('text in another form is refused, not taken for a VM without RAM', () => {
  assert.throws(() => parseRamBlocks('unknown command: info ramblock'), /lists none in this form/);
});

test('a machine without RAM is named as one: -machine none (failure 12)', () => {
  const header =
    '              Block Name    PSize              Offset               Used              Total                HVA  RO\r\n';
  assert.throws(() => parseRamBlocks(header), failsWith('VM', /it has none; a machine without memory/));
});
