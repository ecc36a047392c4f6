import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { MapramError } from '../../../src/errors.js';
import { closeFile } from '../../../src/io/file/open-file.js';
import { socketPair } from '../../../src/io/socket/unix-socket.js';
import { PageBitmap } from '../../../src/mapped-ram/bitmap.js';
import {
  StreamReceiver,
  type StreamReceiverOptions,
} from '../../../src/migration/receiver/stream-receiver.js';
import { encodeSections } from '../../../src/stream/stream-writer.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import {
  blockName,
  initialPacket,
  mainChannel,
  noUuid,
  packet,
  pageCount,
  pageOf,
  pageSize,
  syncPacket,
} from '../made-stream.js';

const pagesOffset = 2 ** 20;

/** A receiver with the sending ends of its connections and the file that it fills. */
class Receiving implements AsyncDisposable {
  readonly receiver: StreamReceiver;
  readonly bitmap = PageBitmap.shared(pageCount);
  readonly #folder = temporaryFolder('receiver');
  readonly #senders: Socket[] = [];
  readonly #sockets: number[] = [];

  constructor(connections: number, options: Partial<StreamReceiverOptions> = {}, uuid?: Uint8Array) {
    for (let connection = 0; connection < connections; connection++) {
      const [ours, theirs] = socketPair();
      this.#sockets.push(ours);
      const sender = new Socket({ fd: theirs });
      sender.on('error', () => {});
      this.#senders.push(sender);
    }
    this.receiver = new StreamReceiver({ connections: this.#sockets.length, name: 'made', ...options });
    this.receiver.connected(this.#sockets, uuid);
  }

  get file(): string {
    return path.join(this.#folder, 'file');
  }

  async send(connection: number, ...pieces: Uint8Array[]): Promise<void> {
    for (const piece of pieces) {
      await new Promise<void>((resolve) => this.#senders[connection]?.write(piece, () => resolve()));
    }
  }

  end(connection: number): void {
    this.#senders[connection]?.end();
  }

  async place(): Promise<void> {
    await this.receiver.start();
    writeFileSync(this.file, '');
    const bitmap = this.bitmap.buffer as SharedArrayBuffer;
    this.receiver.place({
      name: this.file,
      path: this.file,
      direct: true,
      blocks: [{ idstr: blockName, usedLength: pageCount * pageSize, pageSize, pagesOffset, bitmap }],
    });
  }

  /** The slot of a page, or undefined where the page is zero. */
  slot(page: number): Buffer | undefined {
    if (!this.bitmap.test(page)) return undefined;
    const contents = Buffer.alloc(pageSize);
    const fd = openSync(this.file, 'r');
    readSync(fd, contents, 0, pageSize, pagesOffset + page * pageSize);
    closeSync(fd);
    return contents;
  }

  async failure(): Promise<MapramError> {
    const error = await this.receiver.tail().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof MapramError, String(error));
    return error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.receiver.dispose();
    for (const sender of this.#senders) sender.destroy();
    for (const socket of this.#sockets) closeFile(socket);
    rmSync(this.#folder, { recursive: true });
  }
}

describe('a plain stream', () => {
  test('fills the slots, and what becomes zero is taken out again', async () => {
    await using receiving = new Receiving(1);
    const { opening, part, closing } = mainChannel();
    await receiving.send(
      0,
      opening,
      part((to) => to.page(blockName, 0, pageOf(0, 1)).page(blockName, pageSize, pageOf(1, 1))),
      part((to) =>
        to
          .page(blockName, 0, pageOf(0, 2))
          .zeroPage(blockName, pageSize)
          .zeroPage(blockName, 5 * pageSize),
      ),
      closing,
    );
    receiving.end(0);
    await receiving.place();
    const { tail } = await receiving.receiver.tail();
    assert.ok(Buffer.from(tail).includes('globalstate'), 'the tail lacks the device state');
    assert.deepEqual(receiving.slot(0), pageOf(0, 2));
    assert.equal(receiving.slot(1), undefined);
    const counters = receiving.receiver.counters();
    assert.deepEqual([counters.normalPages, counters.duplicatePages], [3, 2]);
  });
});

describe('sections of other devices among those of RAM', () => {
  test('are kept as they came, those before the list of RAM blocks apart', async () => {
    await using receiving = new Receiving(1);
    const { opening, part, closing } = mainChannel();
    const early = encodeSections([
      {
        kind: 'full',
        sectionId: 20,
        idstr: 'early',
        instanceId: 0,
        versionId: 1,
        data: Buffer.from('before RAM'),
      },
    ]);
    const table = { sectionId: 21, idstr: 'spapr/htab', instanceId: 0, versionId: 1 };
    const late = { sectionId: 22, idstr: 'virtio-mem-device-early', instanceId: 0, versionId: 1 };
    const among = [
      encodeSections([{ kind: 'start', ...table, data: Buffer.from('start') }]),
      encodeSections([{ kind: 'full', ...late, data: Buffer.from('plugged') }]),
      encodeSections([{ kind: 'part', ...table, data: Buffer.from('a part') }]),
    ];
    const configurationEnd = Buffer.from(opening).indexOf(Buffer.from([1, 0, 0, 0, 2, 3]));
    await receiving.send(
      0,
      opening.subarray(0, configurationEnd),
      early,
      opening.subarray(configurationEnd),
      ...among.slice(0, 2),
      part((to) => to.page(blockName, 0, pageOf(0, 1))),
      ...among.slice(2),
      closing,
    );
    receiving.end(0);
    await receiving.place();
    const { earlySections } = await receiving.receiver.start();
    const { amongRam, devicesInRounds } = await receiving.receiver.tail();
    assert.deepEqual(Buffer.from(earlySections), Buffer.from(early));
    assert.deepEqual(Buffer.from(amongRam), Buffer.concat(among));
    assert.deepEqual(devicesInRounds, ['spapr/htab']);
    assert.deepEqual(receiving.slot(0), pageOf(0, 1));
  });
});

/** What each connection sends, piece by piece, for pages that come again and again on changing channels. */
interface Plan {
  pieces: Uint8Array[][];
  /** The value that each page holds in the end; undefined for zero. */
  expected: (number | undefined)[];
}

/** @param rounds for each round and page: a channel, `zero`, or nothing */
function planOf(channels: number, flush: boolean, rounds: readonly (number | 'zero' | undefined)[][]): Plan {
  const main = mainChannel({ flush });
  const pieces: Uint8Array[][] = [
    [main.opening],
    ...Array.from({ length: channels }, (_, channel) => [initialPacket(channel), syncPacket()]),
  ];
  const expected = new Array<number | undefined>(pageCount).fill(undefined);
  for (const [round, pages] of rounds.entries()) {
    const zeros: number[] = [];
    for (const [page, where] of pages.entries()) {
      if (where === undefined) continue;
      expected[page] = where === 'zero' ? undefined : round;
      if (where === 'zero') zeros.push(page);
      else pieces[1 + where]?.push(packet([{ page, contents: pageOf(page, round) }]));
    }
    pieces[0]?.push(
      main.part((to) => {
        for (const page of zeros) to.zeroPage(blockName, page * pageSize);
        if (flush) to.multifdFlush();
      }),
    );
    for (const channel of pieces.slice(1)) channel.push(syncPacket());
  }
  pieces[0]?.push(main.closing);
  for (const channel of pieces.slice(1)) channel.push(syncPacket());
  return { pieces, expected };
}

function assertHolds(receiving: Receiving, expected: Plan['expected']): void {
  for (const [page, value] of expected.entries()) {
    const slot = receiving.slot(page);
    assert.equal(slot?.readUInt32LE(4), value, `page ${page}`);
    if (slot && value !== undefined) assert.ok(slot.equals(pageOf(page, value)), `page ${page} is torn`);
  }
}

describe('multifd channels', () => {
  test('an old copy on a slow channel does not replace a newer one from a fast channel', async () => {
    const page = 3;
    const rounds: (number | undefined)[][] = [new Array(page + 1).fill(0), []];
    (rounds[1] as (number | undefined)[])[page] = 1;
    const { pieces, expected } = planOf(2, true, rounds);
    await using receiving = new Receiving(3);
    // Channel 1 has nothing to send in the first round: without being held it would be through with the second
    // before the first page comes.
    await receiving.send(2, ...(pieces[2] as Uint8Array[]));
    receiving.end(2);
    await receiving.send(0, pieces[0]?.[0] as Uint8Array);
    await receiving.send(1, pieces[1]?.[0] as Uint8Array);
    await receiving.place();
    await sleep(50);
    assert.equal(receiving.slot(page), undefined, 'the page of the second round must wait');
    await receiving.send(1, ...(pieces[1] as Uint8Array[]).slice(1));
    await receiving.send(0, ...(pieces[0] as Uint8Array[]).slice(1));
    receiving.end(0);
    receiving.end(1);
    await receiving.receiver.tail();
    assertHolds(receiving, expected);
  });

  test('give the last state of every page, however their bytes interleave', async () => {
    const where = fc.oneof(fc.nat(2), fc.constant('zero' as const), fc.constant(undefined));
    const rounds = fc.array(fc.array(where, { minLength: 16, maxLength: 16 }), {
      minLength: 2,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(rounds, fc.boolean(), fc.infiniteStream(fc.nat()), async (chosen, flush, random) => {
        const { pieces, expected } = planOf(3, flush, chosen);
        await using receiving = new Receiving(4);
        const placed = receiving.place();
        // Pieces go out in any order between connections, and the connections are accepted in any order.
        const order = [0, 1, 2, 3].sort(() => (random.next().value % 2) - 0.5);
        const left = pieces.map((list) => [...list]);
        for (;;) {
          const waiting = left.flatMap((list, index) => (list.length > 0 ? [index] : []));
          if (waiting.length === 0) break;
          const connection = waiting[random.next().value % waiting.length] as number;
          await receiving.send(order[connection] as number, left[connection]?.shift() as Uint8Array);
          if (random.next().value % 8 === 0) await sleep(1);
        }
        for (const connection of order) receiving.end(connection);
        await placed;
        await receiving.receiver.tail();
        assertHolds(receiving, expected);
      }),
      { numRuns: 15 },
    );
  });

  test('pages in a SYNC packet come before the SYNC, as QEMU up to 8.2 means it', async () => {
    await using receiving = new Receiving(2);
    const { opening, part, closing } = mainChannel();
    const withPage = packet([{ page: 1, contents: pageOf(1, 1) }], { sync: true });
    await receiving.send(
      0,
      opening,
      part(() => {}),
      closing,
    );
    await receiving.send(1, initialPacket(0), syncPacket(), withPage, syncPacket());
    receiving.end(0);
    receiving.end(1);
    await receiving.place();
    await receiving.receiver.tail();
    assert.deepEqual(receiving.slot(1), pageOf(1, 1));
  });
});

/** Bytes of a number of 64 bits, big-endian. */
function withUint64(bytes: Uint8Array, at: number, value: bigint): Uint8Array {
  const changed = Buffer.from(bytes);
  changed.writeBigUInt64BE(value, at);
  return changed;
}

describe('a stream that lies', () => {
  const main = mainChannel();
  const good = packet([{ page: 1, contents: pageOf(1, 1) }]);
  const offsetsAt = 320;

  /** Ways to be wrong for channel 1 of 2, behind its first SYNC. */
  const packets: [string, Uint8Array, RegExp][] = [
    [
      'a block that is not listed',
      packet([{ page: 1, contents: pageOf(1, 1) }], { block: 'other.ram' }),
      /channel 1 of made: RAM block "other.ram" is not in the block list.*offset 1408/,
    ],
    [
      'an offset past the block',
      withUint64(good, offsetsAt, BigInt(pageCount * pageSize)),
      /channel 1 of made: a page at 262144 is outside RAM block made.ram of 262144 bytes.*offset 1408/,
    ],
    [
      'an offset of 2^63',
      withUint64(good, offsetsAt, 2n ** 63n),
      /channel 1 of made: a page at offset 92233.*offset 1408/,
    ],
    [
      'bytes that are no packet',
      Buffer.alloc(1344, 0x55),
      /channel 1 of made: a packet with magic 0x55555555.*offset 1408/,
    ],
    [
      'more pages than fit',
      Buffer.concat([good.subarray(0, 16), Buffer.from([0, 1, 0, 0]), good.subarray(20)]),
      /channel 1 of made: a packet with 65536 pages.*offset 1408/,
    ],
    [
      'an end inside a header',
      good.subarray(0, 100),
      /channel 1 of made: it ends inside a packet header at offset 1508/,
    ],
    [
      'an end inside pages',
      good.subarray(0, 2000),
      /channel 1 of made: it ends inside the pages of a packet at offset 3408/,
    ],
    ['an end before a SYNC', new Uint8Array(0), /one of them has ended before that synchronisation/],
  ];
  for (const [what, bytes, message] of packets) {
    test(what, async () => {
      await using receiving = new Receiving(3);
      await receiving.send(
        0,
        main.opening,
        main.part(() => {}),
        main.closing,
      );
      await receiving.send(1, initialPacket(0), syncPacket(), syncPacket(), syncPacket());
      await receiving.send(2, initialPacket(1), syncPacket(), bytes);
      for (const connection of [0, 1, 2]) receiving.end(connection);
      await receiving.place();
      const { code, message: text } = await receiving.failure();
      assert.equal(code, 'FORMAT');
      assert.match(text, message);
    });
  }

  test('a channel for another VM, with a number that is taken, or with one that is too high', async () => {
    const foreign = new Uint8Array(16).fill(0xab);
    const openings: [Uint8Array[], RegExp][] = [
      [
        [initialPacket(0, foreign)],
        /channel 0 of made: .*for the VM abababab-abab-abab-abab-abababababab, not for 00000000-/,
      ],
      [[initialPacket(0), initialPacket(0)], /channel 0 of made: a second connection has that number/],
      [[initialPacket(2)], /channel 2 of made: .*numbers it 2, but there are 2 channels/],
      [[main.opening], /a second main channel connected/],
    ];
    for (const [opening, message] of openings) {
      await using receiving = new Receiving(3, {}, noUuid);
      await receiving.send(0, main.opening);
      for (const [index, bytes] of opening.entries()) await receiving.send(index + 1, bytes);
      const { code, message: text } = await receiving.failure();
      assert.equal(code, 'FORMAT');
      assert.match(text, message);
    }
  });

  test('a channel that stays silent', async () => {
    await using receiving = new Receiving(3, { silenceMs: 200 });
    await receiving.send(
      0,
      main.opening,
      main.part(() => {}),
      main.closing,
    );
    await receiving.send(1, initialPacket(0), syncPacket(), syncPacket(), syncPacket());
    await receiving.send(2, initialPacket(1));
    receiving.end(0);
    await receiving.place();
    const { code, message } = await receiving.failure();
    assert.equal(code, 'MIGRATION');
    assert.match(message, /nothing came for 0.2 s, silent are channel 1 since offset 64$/);
  });

  const mains: [string, Uint8Array, RegExp][] = [
    ['a main channel that is none', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /receiving|reading/],
    [
      'a main channel that ends in the block list',
      main.opening.subarray(0, 60),
      /made: it ends inside .* at offset 60/,
    ],
    [
      'a page of a block that is not listed',
      Buffer.concat([main.opening, main.part((to) => to.page('other.ram', 0, pageOf(0, 1)))]),
      /made: RAM block "other.ram" is not in the block list at offset \d+/,
    ],
    [
      'a page past the block',
      Buffer.concat([
        main.opening,
        main.part((to) => to.page(blockName, pageCount * pageSize, pageOf(0, 1))),
      ]),
      /made: a page at 262144 is outside RAM block made.ram .* at offset \d+/,
    ],
    [
      'RAM of 2^63 bytes',
      withUint64(main.opening, main.opening.length - 5 - 8 - 8 - 9 - 8, 2n ** 63n + 4n),
      /made: .* at offset \d+/,
    ],
    [
      'an end in the middle of RAM',
      Buffer.concat([main.opening, main.part(() => {})]),
      /made: it ends inside .* at offset \d+/,
    ],
  ];
  for (const [what, bytes, message] of mains) {
    test(what, async () => {
      await using receiving = new Receiving(1);
      await receiving.send(0, bytes);
      receiving.end(0);
      const placed = receiving.place().catch(() => {});
      const { code, message: text } = await receiving.failure();
      await placed;
      assert.equal(code, 'FORMAT');
      assert.match(text, message);
    });
  }

  test('nothing is left hanging when it is given up', async () => {
    const receiving = new Receiving(3);
    await receiving.send(0, main.opening);
    await receiving.send(1, initialPacket(0), syncPacket());
    await receiving[Symbol.asyncDispose]();
    assert.equal((await receiving.failure()).code, 'CANCELLED');
  });
});
