import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileOffset } from '../../src/branded.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { knownRegions, type RegionSources } from '../../src/mapped-ram/known-regions.js';
import { goldenBytes } from '../golden/golden-file.js';

const GIB = 2 ** 30;
const NOTHING: RegionSources = {
  blocks: [{ idstr: 'ram', usedLength: GIB }],
  container: { kind: 'qemu', offset: fileOffset(0) },
  devices: [],
  manifest: undefined,
};
const region = { idstr: 'ram', start: 4 * GIB, length: GIB, blockOffset: 0 };

test('a virtio-mem device tells where its block lies', async () => {
  const image = await MappedRamImage.open(new MemorySource(goldenBytes('q35-10.0-mapped-ram-virtio-mem')));
  assert.deepEqual(knownRegions(image), [
    { idstr: '0000:00:01.0/plug', start: 4 * GIB, length: 8 * 2 ** 20, blockOffset: 0 },
  ]);
  assert.equal(image.guestMap.addressOf('0000:00:01.0/plug', 4096), 4 * GIB + 4096);
});

test('the regions of the manifest are taken', () => {
  assert.deepEqual(knownRegions({ ...NOTHING, manifest: { guestRegions: [region] } }), [region]);
});

test('impossible ones are not', () => {
  const wrong = [
    { ...region, idstr: 'other' },
    { ...region, start: -1 },
    { ...region, start: 0.5 },
    { ...region, start: '0' },
    { ...region, length: GIB + 4096 },
    { ...region, length: 0 },
    { ...region, blockOffset: 4096 },
    { idstr: 'ram' },
    null,
    'ram',
  ];
  for (const guestRegions of [wrong, 'none', {}, [[]]])
    assert.deepEqual(knownRegions({ ...NOTHING, manifest: { guestRegions } }), []);
});

test('libvirt tells where DIMMs are plugged', () => {
  const xml = `<memory model='dimm'><target><size unit='KiB'>1048576</size></target>
    <address type='dimm' slot='3' base='0x140000000'/></memory>`;
  const blocks = [{ idstr: 'memdimm3', usedLength: GIB }];
  const header = { complete: true, version: 2, dataLength: 0, wasRunning: true, cookieOffset: 0 } as const;
  const libvirt = { header: { ...header, format: 'sparse', littleEndian: true } as const, xml };
  assert.deepEqual(
    knownRegions({ ...NOTHING, blocks, container: { kind: 'libvirt', offset: fileOffset(0), libvirt } }),
    [{ idstr: 'memdimm3', start: 5 * GIB, length: GIB, blockOffset: 0 }],
  );
});
