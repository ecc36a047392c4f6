import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MapramError } from '../../src/errors.js';
import type { StreamEvent } from '../../src/stream/stream-event.js';
import { StreamParser } from '../../src/stream/stream-parser.js';
import { readStream, readStreamSync } from '../../src/stream/stream-reader.js';
import { StreamWriter } from '../../src/stream/stream-writer.js';

const PAGE = 4096;
const CONFIGURATION = { machine: 'pc-i440fx-10.0', capabilities: [] };

/** A stream up to the place where the records of RAM's START belong. */
function opened(): StreamWriter {
  return new StreamWriter().header().configuration(CONFIGURATION).ramStart(1);
}

function parse(bytes: Uint8Array, chunk = bytes.byteLength): StreamEvent[] {
  const parser = new StreamParser();
  const events: StreamEvent[] = [];
  for (let at = 0; at < bytes.byteLength; at += chunk) {
    events.push(...parser.push(bytes.subarray(at, at + chunk)));
  }
  return [...events, ...parser.end()];
}

/** Runs of pages taken apart and tail chunks joined: what must not depend on how the bytes arrived. */
function canonical(events: readonly StreamEvent[]): unknown[] {
  const tail: number[] = [];
  const parts = events.flatMap((event): unknown[] => {
    if (event.type === 'pages') {
      return event.data.map((page, index) => [
        event.block.idstr,
        event.offset + index * PAGE,
        page[0],
        page.length,
      ]);
    }
    if (event.type === 'zero-pages') {
      return Array.from({ length: event.length / PAGE }, (_, index) => [
        event.block.idstr,
        event.offset + index * PAGE,
        'zero',
      ]);
    }
    if (event.type === 'tail') {
      tail.push(...event.data);
      return [];
    }
    return [event];
  });
  return [...parts, tail];
}

const record = fc.record({
  block: fc.constantFrom('pc.ram', 'pc.bios'),
  page: fc.nat(7),
  kind: fc.constantFrom('page', 'page', 'zero', 'zero', 'xbzrle', 'compressed', 'flush'),
  fill: fc.integer({ min: 1, max: 255 }),
});

test('what the writer wrote is read back, in whatever chunks it arrives', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(record, { maxLength: 20 }), { minLength: 1, maxLength: 3 }),
      fc.uint8Array({ maxLength: 200 }),
      fc.integer({ min: 1, max: 5000 }),
      fc.boolean(),
      (rounds, tail, chunk, uuid) => {
        const blocks = [
          { idstr: 'pc.ram', usedLength: 8 * PAGE },
          { idstr: 'pc.bios', usedLength: 8 * PAGE },
        ];
        const configuration = {
          ...CONFIGURATION,
          targetPageBits: 12,
          ...(uuid ? { uuid: new Uint8Array(16).fill(7) } : {}),
        };
        const writer = new StreamWriter().header().configuration(configuration);
        writer.ramStart(3).ramBlocks(blocks).multifdFlush().ramEos().sectionFooter(3);
        const expected: unknown[] = [];
        for (const [round, records] of rounds.entries()) {
          const last = round === rounds.length - 1;
          if (last) writer.switchoverStart().sectionEnd(3);
          else writer.sectionPart(3);
          for (const { block, page, kind, fill } of records) {
            const offset = page * PAGE;
            const data = new Uint8Array(fill).fill(fill);
            if (kind === 'page') {
              writer.page(block, offset, new Uint8Array(PAGE).fill(fill));
              expected.push([block, offset, fill, PAGE]);
            } else if (kind === 'zero') {
              writer.zeroPage(block, offset);
              expected.push([block, offset, 'zero']);
            } else if (kind === 'xbzrle') {
              writer.xbzrlePage(block, offset, data);
              expected.push(['xbzrle-page', block, offset, fill]);
            } else if (kind === 'compressed') {
              writer.compressedPage(block, offset, data);
              expected.push(['compressed-page', block, offset, fill]);
            } else {
              writer.multifdFlush();
              expected.push('multifd-flush');
            }
          }
          writer.ramEos().sectionFooter(3);
        }
        const events = parse(writer.raw(tail).drainBytes(), chunk);
        const parts = canonical(events);
        assert.deepEqual(parts.at(-1), [...tail]);
        assert.deepEqual(
          events.find((event) => event.type === 'configuration'),
          { type: 'configuration', configuration },
        );
        assert.deepEqual(
          events.find((event) => event.type === 'ram-blocks'),
          { type: 'ram-blocks', totalBytes: 16 * PAGE, blocks },
        );
        const flushes = parts.findIndex((part) => (part as StreamEvent).type === 'multifd-flush');
        const records = parts.slice(flushes + 1, -1).flatMap((part): unknown[] => {
          if (Array.isArray(part)) return [part];
          const event = part as StreamEvent;
          if (event.type === 'xbzrle-page') {
            return [[event.type, event.block.idstr, event.offset, event.encoded.length]];
          }
          if (event.type === 'compressed-page') {
            return [[event.type, event.block.idstr, event.offset, event.compressed.length]];
          }
          return event.type === 'multifd-flush' ? [event.type] : [];
        });
        assert.deepEqual(records, expected);
      },
    ),
  );
});

test('neighbouring pages become one event with views on the chunk', () => {
  const writer = opened().ramBlocks([{ idstr: 'pc.ram', usedLength: 4 * PAGE }]);
  for (let page = 0; page < 3; page++)
    writer.page('pc.ram', page * PAGE, new Uint8Array(PAGE).fill(page + 1));
  writer
    .zeroPage('pc.ram', 3 * PAGE)
    .ramEos()
    .sectionFooter(1)
    .sectionEnd(1)
    .ramEos()
    .sectionFooter(1);
  const bytes = writer.drainBytes();
  const events = parse(bytes);
  const pages = events.filter((event) => event.type === 'pages');
  assert.equal(pages.length, 1);
  assert.deepEqual(
    pages[0]?.data.map((page) => [page[0], page.buffer === bytes.buffer]),
    [
      [1, true],
      [2, true],
      [3, true],
    ],
  );
});

test('the block list of a real mapped-ram stream jumps over the page areas', () => {
  const at = 99;
  const header = { version: 1, pageSize: PAGE, bitmapOffset: 0, pagesOffset: 2 ** 20 };
  const mappedRam = { ...header, bitmapOffset: at + 43, recordOffset: at, headerOffset: at + 15 };
  const bytes = new StreamWriter()
    .header()
    .configuration({ machine: 'pc-i440fx-10.0', capabilities: ['mapped-ram'] })
    .ramStart(1)
    .ramTotal(2 ** 40)
    .ramBlock({ idstr: 'pc.ram', usedLength: 2 ** 40, mappedRam })
    .drainBytes();
  const parser = new StreamParser();
  assert.equal(parser.push(bytes).at(-1)?.type, 'ram-blocks');
  assert.equal(parser.skippable, 2 ** 40 + 2 ** 20 - bytes.byteLength);
  parser.skipped(parser.skippable);
  assert.equal(parser.position, 2 ** 40 + 2 ** 20);
  const rest = new StreamWriter()
    .ramEos()
    .sectionFooter(1)
    .sectionEnd(1)
    .ramEos()
    .sectionFooter(1)
    .drainBytes();
  assert.deepEqual(
    parser.push(rest).map((event) => event.type),
    ['ram-eos', 'section-end', 'section', 'ram-eos', 'section-end'],
  );
  assert.deepEqual(parser.blocks, [{ idstr: 'pc.ram', usedLength: 2 ** 40, mappedRam }]);
});

test('the guest address of x-ignore-shared is read before the mapped-ram header and behind it', () => {
  const capabilities = ['x-ignore-shared', 'mapped-ram'];
  for (const order of ['before', 'behind', 'absent'] as const) {
    const writer = new StreamWriter()
      .header()
      .configuration({ machine: 'q35', capabilities })
      .ramStart(1)
      .ramTotal(PAGE);
    const record = writer.position;
    const headerOffset = record + 1 + 3 + 8 + (order === 'before' ? 8 : 0);
    const mappedRam = {
      version: 1,
      pageSize: PAGE,
      bitmapOffset: headerOffset + 28 + (order === 'behind' ? 8 : 0),
      pagesOffset: 2 ** 20,
      recordOffset: record,
      headerOffset,
    };
    // 4 GiB puts a 1 where a header's version would be.
    const address = { guestAddress: 2 ** 32 };
    const block = { idstr: 'ram', usedLength: PAGE, mappedRam };
    writer.ramBlock(order === 'before' ? { ...block, ...address } : block);
    if (order === 'behind') writer.raw(Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0));
    const parser = new StreamParser();
    parser.push(writer.raw(new Uint8Array(64)).drainBytes());
    parser.skipped(parser.skippable);
    parser.push(new StreamWriter().ramEos().drainBytes());
    assert.deepEqual(parser.blocks, [order === 'absent' ? block : { ...block, ...address }], order);
  }
});

test('a device section before RAM is delimited by its footer', () => {
  const opening = { sectionId: 9, idstr: 'virtio-mem-early', instanceId: 0, versionId: 1 };
  const footerLookalike = Uint8Array.of(1, 0x7e, 0, 0, 0, 9, 2, 3);
  const bytes = new StreamWriter()
    .header()
    .configuration(CONFIGURATION)
    .sectionFull(opening, footerLookalike)
    .ramStart(1)
    .ramBlocks([{ idstr: 'pc.ram', usedLength: PAGE }])
    .ramEos()
    .sectionFooter(1)
    .sectionEnd(1)
    .ramEos()
    .sectionFooter(1)
    .drainBytes();
  for (const chunk of [1, 7, 4096]) {
    const found = parse(bytes, chunk).find((event) => event.type === 'opaque-section');
    assert.deepEqual(
      [found?.idstr, found?.data],
      [opening.idstr, new Uint8Array(footerLookalike)],
      `chunk ${chunk}`,
    );
  }
});

test('commands carry their data, packages their stream', () => {
  const inner = new StreamWriter().command('postcopy-listen').drainBytes();
  const bytes = new StreamWriter()
    .header()
    .configuration(CONFIGURATION)
    .command('open-return-path')
    .command('ping', Uint8Array.of(0, 0, 0, 1))
    .packaged(inner)
    .raw(Uint8Array.of(8, 0x12, 0x34, 0, 2, 5, 6))
    .ramStart(1)
    .ramEos()
    .sectionFooter(1)
    .sectionEnd(1)
    .ramEos()
    .drainBytes();
  const commands = parse(bytes).filter((event) => event.type === 'command');
  assert.deepEqual(
    commands.map(({ name, value, data, packaged }) => ({ name, value, data: [...data], packaged })),
    [
      { name: 'open-return-path', value: 1, data: [], packaged: undefined },
      { name: 'ping', value: 2, data: [0, 0, 0, 1], packaged: undefined },
      { name: 'packaged', value: 7, data: [0, 0, 0, 6 - 1], packaged: inner },
      { name: undefined, value: 0x1234, data: [5, 6], packaged: undefined },
    ],
  );
});

test('after POSTCOPY_ADVISE a huge page size in the block list is recognised', () => {
  const blocks = [
    { idstr: 'huge', usedLength: 2 ** 21, blockPageSize: 2 ** 21 },
    { idstr: 'pc.bios', usedLength: PAGE },
  ];
  const bytes = new StreamWriter()
    .header()
    .configuration(CONFIGURATION)
    .command('postcopy-advise', new Uint8Array(16))
    .ramStart(1)
    .ramBlocks(blocks)
    .ramEos()
    .sectionFooter(1)
    .sectionEnd(1)
    .ramEos()
    .sectionFooter(1)
    .drainBytes();
  const list = parse(bytes).find((event) => event.type === 'ram-blocks');
  assert.deepEqual(list?.blocks, blocks);
});

test('a synchronous source may reuse its memory', () => {
  const writer = opened().ramBlocks([{ idstr: 'pc.ram', usedLength: 64 * PAGE }]);
  for (let page = 0; page < 64; page++) writer.page('pc.ram', page * PAGE, new Uint8Array(PAGE).fill(page));
  writer.ramEos().sectionFooter(1).sectionEnd(1).ramEos().sectionFooter(1);
  const bytes = writer.drainBytes();
  const memory = new Uint8Array(10_000);
  let at = 0;
  const pull = () => {
    const chunk = bytes.subarray(at, at + memory.byteLength);
    memory.fill(0xee).set(chunk);
    at += chunk.byteLength;
    return memory.subarray(0, chunk.byteLength);
  };
  const seen: number[] = [];
  for (const events of readStreamSync(pull)) {
    for (const event of events) {
      if (event.type === 'pages') {
        for (const page of event.data)
          seen.push(page.every((byte) => byte === page[0]) ? (page[0] as number) : -1);
      }
    }
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 64 }, (_, page) => page),
  );
});

test('an asynchronous source is closed when its reader stops early', async () => {
  let closed = false;
  async function* source() {
    try {
      yield new StreamWriter().header().drainBytes();
      yield new StreamWriter().configuration(CONFIGURATION).drainBytes();
      yield new Uint8Array(1);
    } finally {
      closed = true;
    }
  }
  for await (const events of readStream(source())) {
    assert.equal(events[0]?.type, 'header');
    break;
  }
  assert.equal(closed, true);
});

const FAULTS: [string, Uint8Array, RegExp][] = [
  ['an empty stream', new Uint8Array(0), /ends inside the stream header at offset 0/],
  ['a foreign magic', new TextEncoder().encode('GIF89a..'), /magic QEVM is missing/],
  ['version 2', Uint8Array.of(0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 2), /version 2 is not supported/],
  [
    'an unknown section type',
    opened().ramEos().raw(Uint8Array.of(0x33)).drainBytes(),
    /no section type 0x33/,
  ],
  ['no RAM', new StreamWriter().header().configuration(CONFIGURATION).eof().drainBytes(), /without its RAM/],
  [
    'a PART never started',
    opened().ramEos().sectionPart(7).drainBytes(),
    /section 7 goes on but never started/,
  ],
  ['a section that starts twice', opened().ramEos().ramStart(1).drainBytes(), /section 1 starts twice/],
  [
    'a foreign footer',
    opened().ramEos().sectionFooter(2).drainBytes(),
    /footer of section 1 names section 2/,
  ],
  [
    'a page before any block',
    opened()
      .raw(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x28))
      .drainBytes(),
    /no RAM block/,
  ],
  ['an unlisted block', opened().zeroPage('x', 0).drainBytes(), /"x" is not in the block list/],
  [
    'a page outside its block',
    opened()
      .ramBlocks([{ idstr: 'a', usedLength: PAGE }])
      .zeroPage('a', PAGE)
      .drainBytes(),
    /a page at 4096 is outside RAM block a of 4096 bytes/,
  ],
  [
    'a block twice',
    opened()
      .ramBlocks([
        { idstr: 'a', usedLength: PAGE },
        { idstr: 'a', usedLength: PAGE },
      ])
      .drainBytes(),
    /"a" is listed twice/,
  ],
  [
    'a block beyond the total',
    opened()
      .ramTotal(PAGE)
      .ramBlock({ idstr: 'a', usedLength: 2 * PAGE })
      .drainBytes(),
    /of 8192 bytes, only 4096 are left/,
  ],
  [
    'RAM of 2^63 bytes',
    opened()
      .raw(Uint8Array.of(0x7f, 255, 255, 255, 255, 255, 0xf0, 4))
      .drainBytes(),
    /RAM of/,
  ],
  [
    'RDMA records',
    opened()
      .raw(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80))
      .drainBytes(),
    /without RDMA/,
  ],
  [
    'mixed flags',
    opened()
      .raw(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x0a))
      .drainBytes(),
    /flags 0xa/,
  ],
  [
    'a PING without data',
    new StreamWriter()
      .header()
      .raw(Uint8Array.of(8, 0, 2, 0, 0))
      .drainBytes(),
    /ping has 0 bytes/,
  ],
  [
    'a huge machine name',
    new StreamWriter()
      .header()
      .raw(Uint8Array.of(7, 0xff, 0xff, 0xff, 0xff))
      .drainBytes(),
    /machine name of 4294967295 bytes/,
  ],
  ['a stream cut in RAM', opened().drainBytes(), /ends inside the START section of ram/],
];

for (const [name, bytes, message] of FAULTS) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => parse(bytes),
      (error) => error instanceof MapramError && message.test(error.message),
    );
  });
}
