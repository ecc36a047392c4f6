/** Places as `info mtree -f` of QEMU 10.0.2 shows them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestAddress } from '../../src/branded.js';
import { GuestMap, type GuestRegion } from '../../src/mapped-ram/guest-map.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function placed(machine: string, blocks: Record<string, number>): string[] {
  const list = Object.entries(blocks).map(([idstr, usedLength]) => ({ idstr, usedLength }));
  const show = ({ idstr, start, length, blockOffset }: GuestRegion) =>
    `${start.toString(16)}-${(start + length - 1).toString(16)} ${idstr} @${blockOffset.toString(16)}`;
  return new GuestMap({ machine }, list).regions.map(show);
}

test('pc leaves the hole above 3 GiB from 3.5 GiB on', () => {
  assert.deepEqual(placed('pc-i440fx-10.0', { 'pc.ram': 3 * GIB }), ['0-bfffffff pc.ram @0']);
  assert.deepEqual(placed('pc-i440fx-10.0', { 'pc.ram': 3583 * MIB }), ['0-dfefffff pc.ram @0']);
  assert.deepEqual(placed('pc-i440fx-7.2', { 'pc.ram': 3584 * MIB }), [
    '0-bfffffff pc.ram @0',
    '100000000-11fffffff pc.ram @c0000000',
  ]);
});

test('q35 leaves the hole above 2 GiB from 2.75 GiB on', () => {
  assert.deepEqual(placed('pc-q35-10.0', { 'pc.ram': 2 * GIB }), ['0-7fffffff pc.ram @0']);
  assert.deepEqual(placed('pc-q35-10.0', { 'pc.ram': 2816 * MIB }), [
    '0-7fffffff pc.ram @0',
    '100000000-12fffffff pc.ram @80000000',
  ]);
});

test('microvm leaves the hole above 3 GiB', () => {
  assert.deepEqual(placed('microvm', { 'microvm.ram': 5 * GIB, 'pc.bios': 128 * 1024 }), [
    '0-bfffffff microvm.ram @0',
    'fffe0000-ffffffff pc.bios @0',
    '100000000-17fffffff microvm.ram @c0000000',
  ]);
});

test('a memory backend of any name is the memory when it is the only one', () => {
  const blocks = { ram0: GIB, 'pc.bios': 256 * 1024, '0000:00:02.0/vga.vram': 16 * MIB };
  assert.deepEqual(placed('pc-q35-10.0', blocks), ['0-3fffffff ram0 @0', 'fffc0000-ffffffff pc.bios @0']);
  assert.deepEqual(placed('pc-q35-10.0', { node0: GIB, node1: GIB }), []);
});

test('nodes that libvirt has named follow one another, around the hole', () => {
  assert.deepEqual(placed('pc-q35-10.0', { 'ram-node1': 512 * MIB, 'ram-node0': 2560 * MIB }), [
    '0-7fffffff ram-node0 @0',
    '100000000-11fffffff ram-node0 @80000000',
    '120000000-13fffffff ram-node1 @0',
  ]);
  assert.deepEqual(placed('virt-10.0', { 'ram-node0': GIB, 'ram-node1': GIB }), [
    '40000000-7fffffff ram-node0 @0',
    '80000000-bfffffff ram-node1 @0',
  ]);
});

test('nodes of files saved with x-ignore-shared follow their addresses', () => {
  const map = new GuestMap({ machine: 'pc-q35-10.0' }, [
    { idstr: 'low', usedLength: 2 * GIB, guestAddress: 0 },
    { idstr: 'high', usedLength: GIB, guestAddress: 2 * GIB },
  ]);
  assert.deepEqual(
    map.regions.map(({ idstr, start }) => [idstr, start]),
    [
      ['low', 0],
      ['high', 4 * GIB],
    ],
  );
});

test('what is known otherwise is believed, but for what lies over it', () => {
  const map = new GuestMap(
    { machine: 'pc-q35-10.0' },
    [
      { idstr: 'b', usedLength: GIB },
      { idstr: 'a', usedLength: GIB },
      { idstr: 'pc.bios', usedLength: MIB },
    ],
    [
      { idstr: 'a', start: guestAddress(0), length: GIB, blockOffset: 0 },
      { idstr: 'b', start: guestAddress(4 * GIB), length: GIB, blockOffset: 0 },
      { idstr: 'pc.bios', start: guestAddress(0), length: MIB, blockOffset: 0 },
    ],
  );
  assert.deepEqual(
    map.regions.map(({ idstr }) => idstr),
    ['a', 'b'],
  );
  assert.deepEqual(map.unplaced, ['pc.bios']);
});

test('addresses are found both ways', () => {
  const map = new GuestMap({ machine: 'pc-q35-10.0' }, [{ idstr: 'pc.ram', usedLength: 4 * GIB }]);
  assert.equal(map.addressOf('pc.ram', 5000), 5000);
  assert.equal(map.addressOf('pc.ram', 2 * GIB), 4 * GIB);
  assert.equal(map.addressOf('pc.rom', 0), undefined);
  assert.deepEqual(
    [...map.slices(guestAddress(2 * GIB - 4096), 4 * GIB)].map(({ start, length, blockOffset }) => [
      start,
      length,
      blockOffset,
    ]),
    [
      [2 * GIB - 4096, 4096, 2 * GIB - 4096],
      [4 * GIB, 2 * GIB - 4096, 2 * GIB],
    ],
  );
});
