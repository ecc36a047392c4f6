import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileOffset } from '../../src/branded.js';
import { firstRecordOffset, layoutBlocks } from '../../src/mapped-ram/layout.js';

const CONFIGURATION = { machine: 'pc-i440fx-10.0', capabilities: ['mapped-ram'] };
const BLOCKS = [
  { idstr: 'pc.ram', usedLength: 0x4000000 },
  { idstr: '/rom@etc/acpi/tables', usedLength: 0x20000 },
  { idstr: 'pc.bios', usedLength: 0x40000 },
  { idstr: 'pc.rom', usedLength: 0x20000 },
  { idstr: '/rom@etc/table-loader', usedLength: 0x1000 },
  { idstr: '/rom@etc/acpi/rsdp', usedLength: 0x1000 },
];

test('the layout of a real QEMU 10.0.2 file of -machine pc -m 64', () => {
  const firstRecord = firstRecordOffset(fileOffset(0), CONFIGURATION);
  const rows = layoutBlocks(BLOCKS, firstRecord, 4096).map((block) => [
    block.recordOffset,
    block.headerOffset,
    block.bitmapOffset,
    block.bitmapBytes,
    block.pagesOffset,
    block.pagesEnd,
  ]);
  assert.deepEqual(rows, [
    [0x63, 0x72, 0x8e, 2048, 0x100000, 0x4100000],
    [0x4100000, 0x410001d, 0x4100039, 8, 0x4200000, 0x4220000],
    [0x4220000, 0x4220010, 0x422002c, 8, 0x4300000, 0x4340000],
    [0x4340000, 0x434000f, 0x434002b, 8, 0x4400000, 0x4420000],
    [0x4420000, 0x442001e, 0x442003a, 8, 0x4500000, 0x4501000],
    [0x4501000, 0x450101b, 0x4501037, 8, 0x4600000, 0x4601000],
  ]);
});

test('with an offset records move, page areas stay on multiples of 1 MiB of the file', () => {
  const [first] = layoutBlocks(BLOCKS, firstRecordOffset(fileOffset(0x1234), CONFIGURATION), 4096);
  assert.equal(first?.recordOffset, 0x1234 + 0x63);
  assert.equal(first?.pagesOffset, 0x100000);
  const [moved] = layoutBlocks(BLOCKS, firstRecordOffset(fileOffset(0x100000), CONFIGURATION), 4096);
  assert.equal(moved?.pagesOffset, 0x200000);
});

test('a guest address makes the record 8 bytes longer', () => {
  const [first] = layoutBlocks(
    [{ idstr: 'pc.ram', usedLength: 4096, guestAddress: 0 }],
    fileOffset(0x63),
    4096,
  );
  assert.deepEqual([first?.headerOffset, first?.bitmapOffset], [0x7a, 0x96]);
});

test('lengths that are no multiple of the page size or pass 2^53 are refused', () => {
  assert.throws(() => layoutBlocks([{ idstr: 'a', usedLength: 4097 }], fileOffset(0), 4096), RangeError);
  assert.throws(
    () => layoutBlocks([{ idstr: 'a', usedLength: 2 ** 53 - 4096 }], fileOffset(0), 4096),
    RangeError,
  );
});
