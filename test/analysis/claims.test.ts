/** Small files that claim much, or say it often: no file makes a reader take more than 256 MiB (F9). */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { PageBitmap } from '../../src/mapped-ram/bitmap.js';
import { RamFlag } from '../../src/stream/format.js';
import { StreamWriter } from '../../src/stream/stream-writer.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const MIB = 2 ** 20;
const PAGE = 4096;
const root = temporaryFolder('claims');

/** Bytes, or how many of them are a hole. */
type Piece = Uint8Array | number;

interface Claims {
  /** Between configuration and RAM. */
  before?: Piece[];
  /** Lengths of the RAM blocks. */
  blocks?: number[];
  /** Between RAM and EOF. */
  devices?: Piece[];
  description?: Uint8Array;
  /** After everything else. */
  after?: Piece[];
}

function writeFile(name: string, pieces: Iterable<Piece>): string {
  const file = path.join(root, name);
  const fd = openSync(file, 'w');
  let position = 0;
  for (const piece of pieces) {
    if (typeof piece !== 'number') writeSync(fd, piece, 0, piece.byteLength, position);
    position += typeof piece === 'number' ? piece : piece.byteLength;
  }
  ftruncateSync(fd, position);
  closeSync(fd);
  return file;
}

/** A mapped-ram file that claims what it is told to; `ImageWriter` would refuse. */
function claim(
  name: string,
  { before = [], blocks = [MIB], devices = [], description, after = [] }: Claims,
): string {
  const sizeOf = (pieces: Piece[]): number =>
    pieces.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? piece : piece.byteLength), 0);
  const head = new StreamWriter()
    .header()
    .configuration({ machine: 'pc-q35-10.0', capabilities: ['mapped-ram'] });
  const pieces: Piece[] = [head.drainBytes(), ...before];
  let position = sizeOf(pieces);
  const add = (writer: StreamWriter): void => {
    const bytes = writer.drainBytes();
    pieces.push(bytes);
    position += bytes.byteLength;
  };
  add(new StreamWriter().ramStart(1).ramTotal(blocks.reduce((sum, length) => sum + length, 0)));
  for (const [index, usedLength] of blocks.entries()) {
    const idstr = `b${index}`;
    const headerOffset = position + 1 + idstr.length + 8;
    const bitmapOffset = headerOffset + 28;
    const pagesOffset = Math.ceil((bitmapOffset + PageBitmap.byteLength(usedLength / PAGE)) / MIB) * MIB;
    const mappedRam = {
      version: 1,
      pageSize: PAGE,
      bitmapOffset,
      pagesOffset,
      recordOffset: position,
      headerOffset,
    };
    add(new StreamWriter().ramBlock({ idstr, usedLength, mappedRam }));
    pieces.push(pagesOffset + usedLength - position);
    position = pagesOffset + usedLength;
  }
  add(new StreamWriter().ramEos().sectionFooter(1).sectionEnd(1).ramEos().sectionFooter(1));
  pieces.push(...devices, new StreamWriter().eof().drainBytes());
  if (description) pieces.push(new StreamWriter().vmdescription(description).drainBytes());
  return writeFile(name, [...pieces, ...after]);
}

const opening = (sectionId: number): Uint8Array =>
  new StreamWriter()
    .opening('full', { sectionId, idstr: `device${sectionId}`, instanceId: 0, versionId: 1 })
    .drainBytes();

/** Sections of holes, each `length` bytes. */
function sectionsOfHoles(count: number, length: number): Piece[] {
  const footer = (id: number): Uint8Array => new StreamWriter().sectionFooter(id).drainBytes();
  return Array.from({ length: count }, (_, index) => [
    opening(100 + index),
    length,
    footer(100 + index),
  ]).flat();
}

/** Sections of one device each, without data. */
function manySections(count: number): Uint8Array {
  const writer = new StreamWriter();
  for (let index = 0; index < count; index++) {
    writer.sectionFull({ sectionId: 3 + index, idstr: 'd', instanceId: 0, versionId: 1 }, new Uint8Array(4));
  }
  return writer.drainBytes();
}

const text = (value: string): Uint8Array => Buffer.from(value);
const nothing = /^\[\]$/;

const cases: { name: string; claims: () => Claims; inspected: RegExp }[] = [
  {
    name: 'sections of holes before RAM',
    claims: () => ({ before: sectionsOfHoles(40, 15 * MIB) }),
    inspected: /more state of devices than is read, 64 MiB at offset/,
  },
  {
    name: 'a section of holes that has no end',
    claims: () => ({ before: sectionsOfHoles(1, 60 * MIB) }),
    inspected: /section device100 has no end within 16777216 bytes/,
  },
  {
    name: 'a gigabyte of holes after RAM',
    claims: () => ({ after: [1024 * MIB] }),
    inspected: /more than 67108864 bytes follow the RAM/,
  },
  {
    name: 'a vmdescription of a million levels',
    claims: () => ({ description: text(`{"devices":${'['.repeat(MIB)}}`) }),
    inspected: /the vmdescription cannot be read: more than 200 levels/,
  },
  {
    name: 'a vmdescription of five million devices',
    claims: () => ({ description: text(`{"devices":[${'[],'.repeat(5 * MIB)}[]]}`) }),
    inspected: /the vmdescription cannot be read: more than 131072 devices/,
  },
  {
    name: 'a device that is described by five million values',
    claims: () => ({ description: text(`{"devices":[{"a":[${'[],'.repeat(5 * MIB)}[]]}]}`) }),
    inspected: /the vmdescription cannot be read: more than 131072 values/,
  },
  {
    name: 'devices that are described by five million values together',
    claims: () => ({
      description: text(
        `{"devices":[${Array.from({ length: 100 }, (_, index) => `{"name":"d${index}","a":[${'[],'.repeat(52_000)}[]]}`).join()}]}`,
      ),
    }),
    inspected: /the vmdescription cannot be read: more than \d+ values/,
  },
  {
    name: 'as long a vmdescription as is read',
    claims: () => ({ description: text(`{"devices":[],"a":"${'x'.repeat(40 * MIB - 30)}"}`) }),
    inspected: nothing,
  },
  {
    name: 'a long vmdescription in characters of two bytes',
    claims: () => ({ description: text(`{"devices":[],"a":"\u20ac${'x'.repeat(16 * MIB)}"}`) }),
    inspected: /the vmdescription has more than 16777216 bytes, and is not ASCII/,
  },
  {
    name: 'a vmdescription of 45 MB',
    claims: () => ({ description: text(`{"devices":${'['.repeat(45e6)}}`) }),
    inspected: /the vmdescription has more than 41943040 bytes/,
  },
  {
    name: 'a hundred thousand devices in a vmdescription, and none in the stream',
    claims: () => ({ description: text(`{"devices":[${'{"name":"x","fields":[]},'.repeat(1e5)}{}]}`) }),
    inspected: nothing,
  },
  {
    name: 'a hundred thousand sections of devices',
    claims: () => ({ devices: [manySections(1e5)] }),
    inspected: /more than 65536 sections follow the RAM/,
  },
  {
    name: '5,000 RAM blocks of a page each',
    claims: () => ({ blocks: Array.from({ length: 5000 }, () => PAGE) }),
    inspected: /more than 4096 RAM blocks/,
  },
  {
    name: 'a RAM block of 8 TiB',
    claims: () => ({ blocks: [2 ** 43] }),
    inspected: /more than 1073741824 pages together, which are 4 TiB/,
  },
  {
    name: 'RAM blocks of 2 TiB each',
    claims: () => ({ blocks: [2 ** 41, 2 ** 41, 2 ** 41] }),
    inspected: /more than 1073741824 pages together, which are 4 TiB/,
  },
  { name: 'a RAM block of 1 TiB', claims: () => ({ blocks: [2 ** 40] }), inspected: nothing },
];

/** Reads the file once by each operation, in a process of its own, and removes it. */
function readInChild(file: string): { inspected: string; verified: string; peakMiB: number } {
  const child = path.join(import.meta.dirname, 'claims-child.js');
  const [inspected, verified] = ['inspect', 'verify'].map((operation) =>
    JSON.parse(execFileSync(process.execPath, [child, operation, file], { encoding: 'utf8' })),
  );
  rmSync(file);
  return {
    inspected: inspected.problems,
    verified: verified.problems,
    peakMiB: Math.max(inspected.peakMiB, verified.peakMiB),
  };
}

for (const { name, claims, inspected: expected } of cases) {
  test(`${name}: takes less than 256 MiB to read (F9)`, () => {
    const { inspected, peakMiB } = readInChild(claim('file', claims()));
    assert.match(inspected, expected);
    assert.ok(peakMiB < 256, `${peakMiB} MiB`);
  });
}

/** A plain stream of one block, with XBZRLE records of a byte each: one in every `stride` pages. */
function scatteredStream(name: string, records: number, stride: number): string {
  const usedLength = records * stride * PAGE;
  const head = new StreamWriter().header().configuration({ machine: 'pc-q35-10.0', capabilities: [] });
  head.ramStart(1).ramTotal(usedLength).ramBlock({ idstr: 'b', usedLength }).ramEos().sectionFooter(1);
  head.sectionEnd(1);
  const pages = Buffer.alloc(2 + records * 12);
  let at = 0;
  for (let record = 0; record < records; record++) {
    const offset =
      BigInt(record * stride * PAGE) + BigInt(RamFlag.XBZRLE | (record > 0 ? RamFlag.CONTINUE : 0));
    at = pages.writeBigUInt64BE(offset, at);
    if (record === 0) at = pages.write('\u0001b', at, 'latin1') + at;
    at = pages.writeUInt8(1, at);
    at = pages.writeUInt16BE(1, at);
    at = pages.writeUInt8(0, at);
  }
  const end = new StreamWriter().ramEos().sectionFooter(1).eof();
  return writeFile(name, [head.drainBytes(), pages, end.drainBytes()]);
}

for (const { name, records, stride, expected } of [
  { name: 'pages anywhere in 1 TiB', records: 60_000, stride: 4096, expected: nothing },
  {
    name: 'pages that take a hundred times its size to remember',
    records: 70_000,
    stride: 512,
    expected: /they are scattered so widely that this takes more than 268435456 bytes/,
  },
]) {
  test(`a plain stream of ${name}: takes less than 256 MiB to read (F9)`, () => {
    const { inspected, peakMiB } = readInChild(scatteredStream('file', records, stride));
    assert.match(inspected, expected);
    assert.ok(peakMiB < 256, `${peakMiB} MiB`);
  });
}

test('a compressed file that is no saved VM is not decompressed (F9)', async () => {
  const file = path.join(root, 'log.gz');
  writeFileSync(file, gzipSync(Buffer.alloc(300 * MIB, 'x'), { level: 1 }));
  await assert.rejects(
    openSavedVm(file),
    failsWith('FORMAT', /it is a gzip file with no migration stream in it/),
  );
});

test('a compressed file is not decompressed to more than a hundred times its size (F9)', async () => {
  const start = new StreamWriter().header().configuration({ machine: 'pc-q35-10.0', capabilities: [] });
  const file = path.join(root, 'bomb.gz');
  writeFileSync(
    file,
    gzipSync(Buffer.concat([start.drainBytes(), Buffer.alloc(300 * MIB, 'x')]), { level: 1 }),
  );
  await assert.rejects(
    openSavedVm(file),
    failsWith('UNSUPPORTED', /decompressed it is more than 100 times as large.*"gzip -dc .*bomb\.gz > FILE"/),
  );
});
