import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decodeLibvirtData,
  decodeLibvirtHeader,
  encodeLibvirtHeader,
  LIBVIRT_HEADER_BYTES,
  libvirtMark,
} from '../../src/stream/libvirt-header.js';

const HEADER = {
  complete: true,
  version: 2,
  dataLength: 70_000,
  wasRunning: true,
  format: 'sparse' as const,
  cookieOffset: 4000,
  littleEndian: true,
};

test('a header is 92 bytes of magic and integers', () => {
  const bytes = encodeLibvirtHeader(HEADER);
  assert.equal(bytes.byteLength, LIBVIRT_HEADER_BYTES);
  assert.equal(Buffer.from(bytes.subarray(0, 16)).toString(), 'LibvirtQemudSave');
  assert.deepEqual(
    [...bytes.subarray(16, 36)],
    [2, 0, 0, 0, 0x70, 0x11, 1, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0xa0, 0x0f, 0, 0],
  );
});

test('both byte orders are read', () => {
  for (const littleEndian of [true, false]) {
    for (const format of ['raw', 'zstd', 'sparse'] as const) {
      const header = { ...HEADER, littleEndian, format, complete: littleEndian };
      assert.deepEqual(decodeLibvirtHeader(encodeLibvirtHeader(header)), header);
    }
  }
});

test('an unknown format is said so, an unknown version is none', () => {
  const bytes = encodeLibvirtHeader(HEADER);
  bytes[28] = 99;
  const decoded = decodeLibvirtHeader(bytes);
  assert.ok(decoded, 'there is no decoded');
  assert.equal(decoded.format, undefined);
  bytes.fill(9, 16, 20);
  assert.equal(decodeLibvirtHeader(bytes), undefined);
  assert.equal(decodeLibvirtHeader(bytes.subarray(0, 91)), undefined);
});

test('the mark tells finished saves from others', () => {
  const text = (mark: string) => libvirtMark(new TextEncoder().encode(mark));
  assert.deepEqual(['LibvirtQemudSave', 'LibvirtQemudPart', 'LibvirtQemudXxxx', ''].map(text), [
    'complete',
    'partial',
    undefined,
    undefined,
  ]);
});

test('XML and cookie end at their NUL', () => {
  const data = new TextEncoder().encode('<domain/>\0<cookie/>\0\0\0\0');
  assert.deepEqual(decodeLibvirtData({ ...HEADER, cookieOffset: 10 }, data), {
    xml: '<domain/>',
    cookie: '<cookie/>',
  });
  assert.deepEqual(decodeLibvirtData({ ...HEADER, cookieOffset: 0 }, data), { xml: '<domain/>' });
});
