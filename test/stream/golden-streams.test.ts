/** Real streams: what is read from them must be what QEMU said about the VM when it sent them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, inflateSync } from 'node:zlib';
import fc from 'fast-check';
import { MapramError } from '../../src/errors.js';
import { decodeDevice } from '../../src/stream/device-decoder.js';
import {
  type DeviceSection,
  type StreamTail,
  splitSteps,
  splitTail,
} from '../../src/stream/device-sections.js';
import {
  decodeMultifdInitialPacket,
  decodeMultifdPacketHeader,
  encodeMultifdInitialPacket,
  encodeMultifdPacketHeader,
  MULTIFD_INITIAL_PACKET_BYTES,
  type MultifdPacketHeader,
  multifdHeaderBytes,
} from '../../src/stream/multifd-packet.js';
import type { SectionEvent, StreamEvent } from '../../src/stream/stream-event.js';
import { StreamParser } from '../../src/stream/stream-parser.js';
import { concatenate, StreamWriter } from '../../src/stream/stream-writer.js';
import { decodeXbzrle } from '../../src/stream/xbzrle.js';
import { checkEveryDeviceDecodes, checkX86Registers } from '../golden/check-devices.js';
import { expectedOf, goldenBytes, goldenNames } from '../golden/golden-file.js';
import { atOnce } from './at-once.js';

const PAGE = 4096;
const LOW_MEMORY_BYTES = 0xa0000;

/** A whole stream read, its RAM put together as a loader would. */
class LoadedStream {
  readonly parser = new StreamParser();
  readonly events: StreamEvent[] = [];
  readonly ram = new Map<string, Uint8Array>();
  readonly tail: StreamTail;
  pages = 0;
  zeroPages = 0;
  deltas = 0;

  constructor(bytes: Uint8Array, chunk = 65536) {
    for (let at = 0; at < bytes.byteLength; at += chunk) {
      this.take(this.parser.push(bytes.subarray(at, at + chunk)));
    }
    this.take(this.parser.end());
    const pieces = this.events.filter((event) => event.type === 'tail');
    this.tail = atOnce(
      splitSteps(concatenate(pieces.map(({ data }) => data)), {
        position: pieces[0]?.position ?? 0,
        started: this.parser.started,
        footers: this.events.every((event) => event.type !== 'section-end' || event.footer),
      }),
    );
  }

  get mainBlock(): Uint8Array {
    const ram = this.ram.get('pc.ram') ?? this.ram.get('ram');
    assert.ok(ram, 'there is no ram');
    return ram;
  }

  get lowMemorySha256(): string {
    return createHash('sha256').update(this.mainBlock.subarray(0, LOW_MEMORY_BYTES)).digest('hex');
  }

  private take(events: StreamEvent[]): void {
    for (const event of events) {
      this.events.push(event);
      if (event.type === 'ram-blocks') {
        for (const { idstr, usedLength } of event.blocks) this.ram.set(idstr, new Uint8Array(usedLength));
        continue;
      }
      if (!('block' in event)) continue;
      const ram = this.ram.get(event.block.idstr) as Uint8Array;
      switch (event.type) {
        case 'pages':
          for (const [index, page] of event.data.entries()) ram.set(page, event.offset + index * PAGE);
          this.pages += event.data.length;
          break;
        case 'zero-pages':
          ram.fill(0, event.offset, event.offset + event.length);
          this.zeroPages += event.length / PAGE;
          break;
        case 'xbzrle-page':
          decodeXbzrle(event.encoded, ram.subarray(event.offset, event.offset + PAGE));
          this.deltas++;
          break;
        case 'compressed-page':
          ram.set(inflateSync(event.compressed), event.offset);
          this.pages++;
          break;
      }
    }
  }
}

const NAMES = [...goldenNames('stream'), ...goldenNames('multifd')].filter(
  (name) => !name.includes('mapped-ram'),
);

for (const name of NAMES) {
  describe(name, () => {
    const expected = expectedOf(name);
    const bytes = goldenBytes(name);
    const stream = new LoadedStream(bytes);

    test('has the RAM blocks of the VM', () => {
      const blocks = stream.parser.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength }));
      const byName = (a: { idstr: string }, b: { idstr: string }) => a.idstr.localeCompare(b.idstr);
      assert.deepEqual(blocks.sort(byName), expected.ramBlocks.sort(byName));
    });

    test('every section is delimited, and decodes where it is described', () => {
      assert.deepEqual([stream.tail.complete, stream.tail.problems], [true, []]);
      const { sections, description } = stream.tail;
      const foreign = (section: DeviceSection) => section.idstr === 'dirty-bitmap';
      if (description === undefined) assert.ok(sections.length > 20, `length: ${sections.length}`);
      else checkEveryDeviceDecodes(sections.filter((section) => !foreign(section)));
    });

    if (!name.includes('bare')) {
      test('footers alone delimit the same sections', async () => {
        const { sectionBytes, sections } = stream.tail;
        const withoutDescription = await splitTail(concatenate([sectionBytes, Uint8Array.of(0)]), {
          started: stream.parser.started,
        });
        assert.equal(withoutDescription.complete, true);
        const lengths = (list: readonly DeviceSection[]) =>
          list.map(({ idstr, data }) => [idstr, data.byteLength]);
        assert.deepEqual(lengths(withoutDescription.sections), lengths(sections));
        assert.ok(
          withoutDescription.sections.every(({ delimitedBy }) => delimitedBy === 'footer'),
          'a section is not delimited by its footer',
        );
      });
    }

    test('arrives the same byte by byte', () => {
      // The first part only: enough to cut every kind of record everywhere.
      const limit = 30_000;
      const parser = new StreamParser();
      const kinds: string[] = [];
      for (let at = 0; at < limit; at++) {
        for (const { type } of parser.push(bytes.subarray(at, at + 1))) kinds.push(type);
      }
      const whole = new StreamParser().push(bytes.subarray(0, limit));
      const distinct = (list: readonly string[]) => list.filter((kind, index) => kind !== list[index - 1]);
      assert.deepEqual(distinct(kinds), distinct(whole.map(({ type }) => type)));
    });

    if (stream.tail.description !== undefined) {
      test('holds the registers that QEMU printed', () => checkX86Registers(stream.tail.sections, expected));
    }

    if (expected.streams === 1 && !expected.capabilities.includes('x-ignore-shared')) {
      test('holds the guest memory that QEMU dumped', () => {
        assert.equal(stream.lowMemorySha256, expected.lowMemorySha256);
      });

      test('has as many pages as QEMU sent', () => {
        const { pages, zeroPages, deltas } = stream;
        assert.equal(deltas, expected.xbzrlePages ?? 0);
        const compressed = stream.events.some(({ type }) => type === 'compressed-page');
        assert.equal(compressed, expected.capabilities.includes('compress'));
        // What QEMU counts while it compresses pages or sends deltas is not what it sends.
        if (deltas === 0 && !compressed) {
          assert.deepEqual({ normal: pages, duplicate: zeroPages }, expected.migration);
        }
      });
    }

    test('written again from its events is the same stream, byte for byte', () => {
      const again = writeAgain(stream);
      assert.equal(Buffer.compare(again, bytes), 0);
    });
  });
}

/** The stream as the writer makes it from the events of the reader. */
function writeAgain({ events, tail, parser }: LoadedStream): Uint8Array {
  const writer = new StreamWriter();
  let open: SectionEvent | undefined;
  for (const event of events) {
    switch (event.type) {
      case 'header':
        writer.header();
        break;
      case 'configuration':
        writer.configuration(event.configuration);
        break;
      case 'section':
        open = event;
        if (event.kind === 'start' || event.kind === 'full') writer.opening(event.kind, event);
        else if (event.kind === 'part') writer.sectionPart(event.sectionId);
        else writer.sectionEnd(event.sectionId);
        break;
      case 'section-end':
        assert.equal(event.sectionId, open?.sectionId);
        if (event.footer) writer.sectionFooter(event.sectionId);
        break;
      case 'ram-blocks':
        writer.ramBlocks(event.blocks);
        break;
      case 'pages':
        for (const [index, page] of event.data.entries()) {
          writer.page(event.block.idstr, event.offset + index * parser.pageSize, page);
        }
        break;
      case 'zero-pages':
        for (let done = 0; done < event.length; done += parser.pageSize) {
          writer.zeroPage(event.block.idstr, event.offset + done);
        }
        break;
      case 'xbzrle-page':
        writer.xbzrlePage(event.block.idstr, event.offset, event.encoded);
        break;
      case 'compressed-page':
        writer.compressedPage(event.block.idstr, event.offset, event.compressed);
        break;
      case 'multifd-flush':
        writer.multifdFlush();
        break;
      case 'ram-eos':
        writer.ramEos();
        break;
      case 'command':
        assert.ok(event.name, 'there is no name');
        writer.command(event.name, event.data);
        break;
      case 'opaque-section':
        writer.raw(event.data);
        break;
    }
  }
  writer.raw(tail.sectionBytes).eof();
  if (tail.descriptionText !== undefined) writer.vmdescription(tail.descriptionText);
  return writer.drainBytes();
}

interface ChannelPacket {
  header: MultifdPacketHeader;
  bytes: Uint8Array;
  payload: Uint8Array;
}

function packetsOf(bytes: Uint8Array): ChannelPacket[] {
  const packets: ChannelPacket[] = [];
  const length = multifdHeaderBytes(PAGE);
  for (let at = MULTIFD_INITIAL_PACKET_BYTES; at < bytes.byteLength; ) {
    const header = decodeMultifdPacketHeader(bytes.subarray(at, at + length), PAGE);
    const payload = bytes.subarray(at + length, at + length + header.payloadBytes);
    assert.equal(payload.byteLength, header.payloadBytes);
    packets.push({ header, payload, bytes: bytes.subarray(at, at + length) });
    at += length + header.payloadBytes;
  }
  return packets;
}

for (const name of goldenNames('multifd').filter((each) => !each.includes('mapped-ram'))) {
  describe(`the channels of ${name}`, () => {
    const expected = expectedOf(name);
    const channels = Array.from({ length: expected.streams - 1 }, (_, channel) => goldenBytes(name, channel));
    const main = new LoadedStream(goldenBytes(name));

    test('introduce themselves', () => {
      for (const [channel, bytes] of channels.entries()) {
        const initial = decodeMultifdInitialPacket(bytes);
        assert.deepEqual(initial, { uuid: new Uint8Array(16), channel });
        assert.deepEqual(encodeMultifdInitialPacket(initial), bytes.slice(0, MULTIFD_INITIAL_PACKET_BYTES));
      }
    });

    test('carry the guest memory that QEMU dumped', () => {
      for (const bytes of channels) {
        const packets = packetsOf(bytes);
        const payload = concatenate(packets.map((packet) => packet.payload));
        const zlib = packets.some(({ header }) => header.method === 'zlib');
        const contents = zlib ? inflateSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }) : payload;
        let at = 0;
        for (const { header } of packets) {
          const ram = main.ram.get(header.block) ?? new Uint8Array(0);
          for (const offset of header.normalOffsets) {
            ram.set(contents.subarray(at, at + PAGE), offset);
            at += PAGE;
          }
          for (const offset of header.zeroOffsets) ram.fill(0, offset, offset + PAGE);
        }
        assert.equal(at, contents.byteLength);
      }
      assert.equal(main.lowMemorySha256, expected.lowMemorySha256);
    });

    test('synchronise as often as the main channel says', () => {
      const flushes = main.events.filter(({ type }) => type === 'multifd-flush').length;
      const ends = main.events.filter(({ type }) => type === 'ram-eos').length;
      for (const bytes of channels) {
        const syncs = packetsOf(bytes).filter(({ header }) => header.sync).length;
        assert.equal(syncs, flushes > 0 ? flushes : ends);
      }
    });

    if (!name.includes('7.2')) {
      // QEMU 7.2 leaves remains of earlier packets in the fields that mean nothing.
      test('headers are written as QEMU writes them', () => {
        for (const bytes of channels) {
          for (const packet of packetsOf(bytes)) {
            assert.deepEqual(encodeMultifdPacketHeader(packet.header, PAGE), packet.bytes.slice());
          }
        }
      });
    }
  });
}

test('damaged streams end in events or a MapramError, never otherwise', () => {
  for (const name of ['pc-10.0-stream', 'pc-7.2-stream-compress', 'q35-10.0-stream-virtio-mem']) {
    const bytes = goldenBytes(name);
    const pieces = new StreamParser().push(bytes).filter((event) => event.type === 'tail');
    const tail = pieces[0]?.position ?? 0;
    const place = fc.oneof(
      fc.nat(1200),
      fc.nat(bytes.byteLength - 1),
      fc.integer({ min: tail, max: tail + 3000 }),
    );
    const values = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(new Uint8Array(8).fill(0xff), new Uint8Array(8), Uint8Array.of(0x7e, 0, 0, 0, 1)),
    );
    const patches = fc.array(fc.record({ at: place, values }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(patches, fc.option(place), fc.integer({ min: 100, max: 100_000 }), (list, cut, chunk) => {
        const damaged = bytes.slice(0, cut ?? bytes.byteLength);
        for (const { at, values: patch } of list) {
          if (at + patch.byteLength <= damaged.byteLength) damaged.set(patch, at);
        }
        try {
          const { tail: split } = new LoadedStream(damaged, chunk);
          for (const { description, data } of split.sections)
            if (description) decodeDevice(description, data);
        } catch (error) {
          // zlib's own errors come from the loader in this test.
          const expected =
            error instanceof MapramError || (error as NodeJS.ErrnoException).code?.startsWith('Z_');
          assert.ok(expected, String(error));
        }
      }),
      { numRuns: 60 },
    );
  }
});
