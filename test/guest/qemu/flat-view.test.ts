import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlatView } from '../../../src/guest/qemu/flat-view.js';

const MIB = 2 ** 20;

/** QEMU 10.0.2: q35 of 3 GiB in two nodes, a DIMM, a virtio-mem device and a screen whose memory the firmware has mapped. */
const TEXT = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): b
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000
  0000000000100000-000000007fffffff (prio 0, ram): b @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram KVM
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000011fffffff (prio 0, ram): b @0000000080000000
  0000000120000000-000000013fffffff (prio 0, ram): a
  0000000140000000-000000014fffffff (prio 0, ram): d
  0000000150000000-000000015fffffff (prio 0, ram): v

FlatView #2
 AS "VGA", root: bus master container
  0000000000000000-00000000ffffffff (prio 0, ram): d
`;
const BLOCKS = ['b', 'a', 'd', '0000:00:02.0/v', '0000:00:01.0/vga.vram', 'pc.rom', 'pc.bios'];

test('the regions of the system memory, RAM before what lies over it', () => {
  const regions = parseFlatView(TEXT.replaceAll('\n', '\r\n'), BLOCKS);
  const lines = regions.map(
    ({ idstr, start, length, blockOffset }) =>
      `${start.toString(16)} ${idstr} @${blockOffset.toString(16)}: ${length / MIB}`,
  );
  assert.deepEqual(lines, [
    '0 b @0: 2048',
    'fd000000 0000:00:01.0/vga.vram @0: 16',
    'fffc0000 pc.bios @0: 0.25',
    '100000000 b @80000000: 512',
    '120000000 a @0: 512',
    '140000000 d @0: 256',
    '150000000 0000:00:02.0/v @0: 256',
  ]);
});

test('names that several devices have tell nothing', () => {
  assert.deepEqual(parseFlatView(TEXT, ['0000:00:01.0/v', '0000:00:02.0/v']), []);
});

test('another text has none', () => {
  for (const text of ['', 'No rendered FlatView', TEXT.replace('root: system', 'root: other')])
    assert.deepEqual(parseFlatView(text, BLOCKS), []);
});
