/** Every reader of bytes that come from outside, with real inputs to start from. */

import { readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { openSource } from '../../src/analysis/open-saved-vm.js';
import { MapramError } from '../../src/errors.js';
import { parseRamBlocks } from '../../src/guest/qemu/ram-block-table.js';
import { JsonReader } from '../../src/json/json-reader.js';
import { checkManifest, readManifest } from '../../src/manifest/check-manifest.js';
import { findManifest, withoutManifest } from '../../src/manifest/description-text.js';
import { type ByteSource, MemorySource } from '../../src/mapped-ram/byte-source.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { findStream } from '../../src/mapped-ram/container.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { CommandLineError, LineReader, parseHumanArguments } from '../../src/monitor/hmp/command-line.js';
import { decodeDevice } from '../../src/stream/device-decoder.js';
import { splitTail } from '../../src/stream/device-sections.js';
import { encodeLibvirtHeader } from '../../src/stream/libvirt-header.js';
import {
  decodeMultifdInitialPacket,
  decodeMultifdPacketHeader,
  multifdHeaderBytes,
} from '../../src/stream/multifd-packet.js';
import { StreamParser } from '../../src/stream/stream-parser.js';
import { parseVmDescription } from '../../src/stream/vmdescription.js';
import { decodeXbzrle, encodeXbzrle } from '../../src/stream/xbzrle.js';
import { expectedOf, goldenBytes } from '../golden/golden-file.js';
import { Folder, seal } from '../manifest/sample.js';

export interface FuzzTarget {
  name: string;
  /** Share of all inputs, relative to the other targets: slow readers get fewer. */
  weight: number;
  seeds: readonly Uint8Array[];
  /** Whether inputs keep the length of their seed. */
  fixedLength?: boolean;
  /** Throws only for what a caller must expect; the harness judges. */
  read(bytes: Uint8Array): unknown;
  /** Further errors than `MapramError` that this reader documents. */
  documented?: readonly (abstract new (
    ...args: never[]
  ) => Error)[];
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytesOf = (value: string) => Buffer.from(value);

export async function fuzzTargets(): Promise<FuzzTarget[]> {
  const streams = ['pc-10.0-stream', 'pc-7.2-stream-compress', 'pc-10.0-stream-xbzrle', 'pc-10.0-multifd'];
  const images = [
    await sealedGolden('pc-10.0-mapped-ram'),
    await sealedGolden('virt-riscv64-10.0-mapped-ram'),
  ];
  const covered = await Promise.all(images.map((image) => coveredBytes(image, 'all')));
  const heads = await Promise.all(images.map((image) => coveredBytes(image, 'head')));
  const opened = await Promise.all(images.map((bytes) => MappedRamImage.open(new MemorySource(bytes))));
  const descriptions = opened.map(({ tail }) => bytesOf(tail.descriptionText ?? ''));
  const channel = goldenBytes('pc-10.0-multifd', 0);
  const packets = [
    channel.subarray(0, multifdHeaderBytes(4096)),
    channel.subarray(64, 64 + multifdHeaderBytes(4096)),
  ];
  const page = Buffer.alloc(4096, 1).fill(7, 100, 300).fill(9, 4000);
  return [
    {
      name: 'stream',
      weight: 2,
      seeds: streams.map((name) => goldenBytes(name).subarray(0, 120_000)),
      read(bytes) {
        const parser = new StreamParser({ name: 'fuzz' });
        for (let at = 0; at < bytes.length; at += 7001) parser.push(bytes.subarray(at, at + 7001));
        parser.end();
      },
    },
    {
      name: 'pages of a stream',
      weight: 1,
      seeds: streams.slice(0, 3).map((name) => goldenBytes(name).subarray(0, 60_000)),
      read: readPagesOf,
    },
    {
      name: 'compressed file',
      weight: 1,
      seeds: [
        gzipSync(goldenBytes('pc-10.0-stream').subarray(0, 60_000)),
        gzipSync(goldenBytes('pc-7.2-stream-compress').subarray(0, 60_000), { level: 0 }),
        goldenBytes('libvirt-11.3-gzip').subarray(0, 60_000),
        goldenBytes('libvirt-11.3-zstd').subarray(0, 60_000),
      ],
      read: readPagesOf,
    },
    imageTarget('image', covered),
    imageTarget('image headers', heads),
    {
      name: 'tail of a stream',
      weight: 2,
      seeds: opened.map(({ tail, tailOffset = 0 }, index) =>
        (images[index] as Uint8Array).subarray(tailOffset, tailOffset + tail.sectionBytes.length + 30_000),
      ),
      async read(bytes) {
        for (const { description, data } of (await splitTail(bytes)).sections) {
          if (description) decodeDevice(description, data);
        }
      },
    },
    {
      name: 'vmdescription',
      weight: 4,
      seeds: descriptions,
      documented: [SyntaxError],
      read: (bytes) => parseVmDescription(text(bytes)),
    },
    {
      name: 'manifest',
      weight: 8,
      seeds: descriptions.map((description) =>
        description.subarray(description.lastIndexOf('"mapram": ') + 10, -1),
      ),
      async read(bytes) {
        const description = `{"devices": [], "mapram": ${text(bytes)}}`;
        await withoutManifest(description);
        const found = await findManifest(description);
        if (found) readManifest(description.slice(found.start, found.end));
      },
    },
    {
      name: 'multifd packet',
      weight: 20,
      seeds: packets,
      read(bytes) {
        decodeMultifdPacketHeader(bytes, 4096);
      },
    },
    {
      name: 'multifd initial packet',
      weight: 6,
      seeds: [channel.subarray(0, 64)],
      read: (bytes) => decodeMultifdInitialPacket(bytes),
    },
    {
      name: 'XBZRLE page',
      weight: 16,
      seeds: [encodeXbzrle(Buffer.alloc(4096), page), encodeXbzrle(page, Buffer.alloc(4096, 1))].filter(
        (bytes) => bytes !== undefined,
      ),
      read: (bytes) => decodeXbzrle(bytes, Buffer.alloc(4096)),
    },
    {
      name: 'libvirt header',
      weight: 10,
      seeds: [libvirtFile()],
      read: (bytes) => findStream(new MemorySource(bytes)),
    },
    {
      name: 'QMP',
      weight: 20,
      seeds: [
        bytesOf(
          '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}\r\n',
        ),
        bytesOf(
          '{"execute": "migrate-set-parameters", "arguments": {"downtime-limit": 300, "direct-io": true}}\n',
        ),
        bytesOf(
          `{"timestamp": {"seconds": 1767225600, "microseconds": 0}, "event": "STOP", 'id': "\\u00e9 \\n"}\n`,
        ),
      ],
      read(bytes) {
        const reader = new JsonReader();
        for (let at = 0; at < bytes.length; at += 17)
          for (const _ of reader.push(bytes.subarray(at, at + 17)));
        for (const _ of reader.end());
      },
    },
    {
      name: 'HMP command',
      weight: 6,
      seeds: [bytesOf('-d -b "file:/tmp/a \\"b\\".mapram,offset=0x1000"'), bytesOf("multifd on 'x y'")],
      documented: [CommandLineError],
      read: (bytes) =>
        parseHumanArguments(new LineReader(text(bytes)), 'migrate', 'migrate', [
          { name: 'd', kind: 'flag' },
          { name: 'uri', kind: 'word' },
          { name: 'on', kind: 'switch' },
        ]),
    },
    {
      name: 'info ramblock',
      weight: 4,
      seeds: [
        bytesOf(
          '              Block Name    PSize              Offset               Used              Total                HVA  RO\n                  pc.ram    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x00007f4a7ffff000  rw\n    /rom@etc/acpi/tables    4 KiB  0x0000000008080000 0x0000000000020000 0x0000000000200000 0x00007f4a7f600000  ro\n',
        ),
      ],
      read: (bytes) => parseRamBlocks(text(bytes)),
    },
  ];
}

/** Opens a saved VM of any form as `inspect` does, and reads the first pages of each block. */
async function readPagesOf(bytes: Uint8Array): Promise<void> {
  await using saved = await openSource(new MemorySource(bytes, 'fuzz'));
  for (const block of saved.blocks) {
    let runs = 0;
    for (const { first, count } of saved.runs(block, 16)) {
      await saved.readPages(block, first, count);
      if (++runs === 4) break;
    }
  }
}

function imageTarget(name: string, images: readonly PatchedImage[]): FuzzTarget {
  return {
    name,
    weight: 2,
    seeds: images.map(({ bytes }) => bytes),
    fixedLength: true,
    async read(bytes) {
      const base = images.find((candidate) => candidate.bytes.length === bytes.length);
      if (base === undefined) throw new Error('the length changed');
      await using image = await MappedRamImage.open(base.patched(bytes));
      checkImage(image);
      await checkManifest(image);
      const [block] = image.blocks;
      if (block) await image.readPages(block, 0, Math.min(4, block.pageCount));
    },
  };
}

export function isExpected(error: unknown, { documented = [] }: FuzzTarget): boolean {
  return error instanceof MapramError || documented.some((kind) => error instanceof kind);
}

async function sealedGolden(name: string): Promise<Uint8Array> {
  using folder = new Folder();
  const file = folder.file('vm');
  writeFileSync(file, goldenBytes(name));
  await seal(file, { offset: expectedOf(name).offset });
  return new Uint8Array(readFileSync(file));
}

interface PatchedImage {
  /** Everything of the image but its page areas, or only what lies before and between them. */
  bytes: Uint8Array;
  /** The image with these bytes in their place. */
  patched(bytes: Uint8Array): ByteSource;
}

async function coveredBytes(image: Uint8Array, which: 'all' | 'head'): Promise<PatchedImage> {
  const { blocks } = await MappedRamImage.open(new MemorySource(image));
  const ranges: [number, number][] = [];
  let from = 0;
  for (const { bitmapOffset, bitmap, pagesOffset, usedLength } of blocks) {
    ranges.push([from, bitmapOffset + bitmap.bytes.length]);
    from = pagesOffset + usedLength;
  }
  if (which === 'all') ranges.push([from, image.length]);
  const work = Uint8Array.from(image);
  return {
    bytes: Buffer.concat(ranges.map(([start, end]) => image.subarray(start, end))),
    patched(bytes) {
      let at = 0;
      for (const [start, end] of ranges) {
        work.set(bytes.subarray(at, at + end - start), start);
        at += end - start;
      }
      return new MemorySource(work, 'fuzz');
    },
  };
}

function libvirtFile(): Uint8Array {
  const xml = Buffer.from('<domain type="qemu"><name>vm</name></domain>\0');
  const header = encodeLibvirtHeader({
    complete: true,
    version: 2,
    dataLength: xml.length,
    wasRunning: true,
    format: 'raw',
    cookieOffset: 0,
    littleEndian: true,
  });
  return Buffer.concat([header, xml, goldenBytes('pc-10.0-stream').subarray(0, 200)]);
}
