import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MapramError } from '../../src/errors.js';
import {
  decodeMultifdInitialPacket,
  decodeMultifdPacketHeader,
  encodeMultifdInitialPacket,
  encodeMultifdPacketHeader,
  type MultifdPacketHeader,
  multifdHeaderBytes,
} from '../../src/stream/multifd-packet.js';

const PAGE = 4096;

function packet(changes: Partial<MultifdPacketHeader> = {}): MultifdPacketHeader {
  return {
    sync: false,
    method: 'none',
    packetNumber: 7n,
    block: 'pc.ram',
    normalOffsets: [0, 3 * PAGE],
    zeroOffsets: [PAGE],
    payloadBytes: 2 * PAGE,
    ...changes,
  };
}

test('headers have room for all pages of a packet, whatever they count', () => {
  assert.deepEqual([4096, 8192, 65536].map(multifdHeaderBytes), [1344, 832, 384]);
});

test('what is encoded is decoded', () => {
  const offsets = fc
    .array(fc.nat(2 ** 30), { maxLength: 64 })
    .map((pages) => pages.map((page) => page * PAGE));
  fc.assert(
    fc.property(
      offsets,
      offsets,
      fc.boolean(),
      fc.bigInt(0n, 2n ** 64n - 1n),
      (normal, zero, sync, packetNumber) => {
        const header = packet({
          sync,
          packetNumber,
          block: normal.length + zero.length === 0 ? '' : '0000:00:02.0/vga.vram',
          normalOffsets: normal,
          zeroOffsets: zero,
          payloadBytes: normal.length * PAGE,
        });
        assert.deepEqual(decodeMultifdPacketHeader(encodeMultifdPacketHeader(header, PAGE), PAGE), header);
      },
    ),
  );
  const initial = { uuid: new Uint8Array(16).fill(3), channel: 9 };
  assert.deepEqual(decodeMultifdInitialPacket(encodeMultifdInitialPacket(initial)), initial);
});

test('the size that older QEMUs leave in packets without pages means nothing', () => {
  const bytes = encodeMultifdPacketHeader(packet({ sync: true, normalOffsets: [], payloadBytes: 0 }), PAGE);
  new DataView(bytes.buffer).setUint32(20, 524288);
  assert.equal(decodeMultifdPacketHeader(bytes, PAGE).payloadBytes, 0);
});

type Change = (view: DataView) => void;
const REFUSED: [string, RegExp, Change][] = [
  ['a foreign magic', /magic 0x0 instead/, (view) => view.setUint32(0, 0)],
  ['another version', /version 2 instead/, (view) => view.setUint32(4, 2)],
  ['device state', /device state of VFIO/, (view) => view.setUint32(8, 0x40)],
  ['unknown flags', /flags 0x100/, (view) => view.setUint32(8, 0x100)],
  ['two methods at once', /flags 0x6/, (view) => view.setUint32(8, 6)],
  ['room for too many pages', /room for 129 pages/, (view) => view.setUint32(12, 129)],
  ['too many pages', /with 129 pages/, (view) => view.setUint32(16, 129)],
  ['too many zero pages', /127 zero pages, more than 126/, (view) => view.setUint32(32, 127)],
  ['a payload of the wrong size', /2 pages has 1 bytes/, (view) => view.setUint32(20, 1)],
  ['an unaligned page', /a page at offset 5/, (view) => view.setBigUint64(320, 5n)],
  ['an endless offset', /a page at offset 9223/, (view) => view.setBigUint64(320, 2n ** 63n)],
  ['a block name without end', /name has no end/, (view) => new Uint8Array(view.buffer).fill(0x61, 64, 320)],
];

for (const [name, message, change] of REFUSED) {
  test(`${name} is refused`, () => {
    const bytes = encodeMultifdPacketHeader(packet(), PAGE);
    change(new DataView(bytes.buffer));
    assert.throws(
      () => decodeMultifdPacketHeader(bytes, PAGE),
      (error) => error instanceof MapramError && message.test(error.message),
    );
  });
}

test('a compressed payload may have any sensible size', () => {
  const header = packet({ method: 'zlib', payloadBytes: 17 });
  assert.deepEqual(decodeMultifdPacketHeader(encodeMultifdPacketHeader(header, PAGE), PAGE), header);
  const bomb = encodeMultifdPacketHeader(packet({ method: 'zstd', payloadBytes: 2 ** 31 }), PAGE);
  assert.throws(() => decodeMultifdPacketHeader(bomb, PAGE), MapramError);
});

test('packets that cannot be written are a RangeError', () => {
  const many = Array.from({ length: 129 }, (_, page) => page * PAGE);
  assert.throws(() => encodeMultifdPacketHeader(packet({ normalOffsets: many }), PAGE), RangeError);
  assert.throws(() => encodeMultifdPacketHeader(packet({ normalOffsets: [] }), PAGE), RangeError);
  assert.throws(() => encodeMultifdPacketHeader(packet({ block: 'x'.repeat(256) }), PAGE), RangeError);
  assert.throws(() => encodeMultifdInitialPacket({ uuid: new Uint8Array(5), channel: 0 }), RangeError);
  assert.throws(() => decodeMultifdInitialPacket(new Uint8Array(5)), MapramError);
});
