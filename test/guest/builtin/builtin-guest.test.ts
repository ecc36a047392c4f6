import assert from 'node:assert/strict';
import { fstatSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuiltinGuest } from '../../../src/guest/builtin/builtin-guest.js';
import type { GuestRamBlock } from '../../../src/guest/guest.js';
import { dataExtents } from '../../../src/io/file/data-extents.js';
import { failsWith } from '../../support/fails-with.js';

const MIB = 2 ** 20;
const SMALL = { size: 8 * MIB, dirtyRate: 8 * MIB, seed: 3 };

function memoryOf(block: GuestRamBlock): Buffer {
  const memory = Buffer.alloc(block.usedLength);
  for (let done = 0; done < memory.length; ) {
    done += readSync(block.fd, memory, done, memory.length - done, block.fdOffset + done);
  }
  return memory;
}

/** Bytes of a block that are no holes. */
function allocatedTo({ fd, fdOffset, usedLength }: GuestRamBlock): number {
  const extents = [...dataExtents(fd, fdOffset, fdOffset + usedLength)];
  return extents.reduce((total, { start, end }) => total + end - start, 0);
}

const allMemory = (guest: BuiltinGuest) => guest.blocks.map(memoryOf);

/** What a migration does, without one: memory and device state go from one guest to another. */
function transplant(from: BuiltinGuest, to: BuiltinGuest): void {
  from.blocks.forEach((block, index) => {
    const target = to.blocks[index];
    assert.equal(target?.usedLength, block.usedLength);
    writeSync(target?.fd ?? -1, memoryOf(block), 0, block.usedLength, target?.fdOffset ?? 0);
  });
  to.loadDevices(from.saveDevices().sections);
}

test('blocks have names, sizes and addresses that do not overlap', async () => {
  await using one = await BuiltinGuest.start({ ...SMALL, begin: 'paused' });
  assert.deepEqual(
    one.blocks.map(({ idstr, usedLength, guestAddress, pageSize }) => [
      idstr,
      usedLength,
      guestAddress,
      pageSize,
    ]),
    [
      ['builtin.ram', 8 * MIB, MIB, 4096],
      ['builtin.rom', 65536, 0, 4096],
    ],
  );
  await using two = await BuiltinGuest.start({ ...SMALL, blocks: 2, begin: 'paused' });
  assert.deepEqual(
    two.blocks.map(({ idstr, usedLength, guestAddress }) => [idstr, usedLength, guestAddress]),
    [
      ['builtin.ram0', 4 * MIB, MIB],
      ['builtin.ram1', 4 * MIB, 5 * MIB],
      ['builtin.rom', 65536, 0],
    ],
  );
});

test('the same options give the same memory; pattern, fill and seed decide what is in it', async () => {
  const start = async (options: object) => {
    const guest = await BuiltinGuest.start({ ...SMALL, begin: 'paused', ...options });
    const [memory = Buffer.alloc(0)] = allMemory(guest);
    const allocated = allocatedTo(guest.blocks[0] as GuestRamBlock);
    assert.equal((await guest.checkMemory()).ok, true);
    await guest[Symbol.asyncDispose]();
    return { memory, allocated };
  };
  const base = await start({});
  assert.ok(base.memory.equals((await start({})).memory), 'the same seed gives other memory');
  assert.ok(!base.memory.equals((await start({ seed: 4 })).memory), 'another seed gives the same memory');
  // 75 % of 8 stripes; untouched stripes are holes, but for page 0, which holds the counter.
  assert.ok(
    base.allocated >= 6 * MIB && base.allocated <= 6 * MIB + 4096,
    `${base.allocated} bytes are allocated`,
  );
  const random = await start({ pattern: 'random', fill: 100 });
  assert.equal(random.allocated, 8 * MIB);
  const empty = await start({ pattern: 'zero' });
  assert.equal(empty.allocated, 4096);
  assert.equal(empty.memory.subarray(0, 20).toString(), 'mapram builtin guest');
});

test('ticks raise the counter in RAM and rewrite memory at the set rate', async () => {
  await using guest = await BuiltinGuest.start({ ...SMALL, begin: 'paused' });
  const before = allMemory(guest);
  guest.startDirtyLog();
  await guest.step(50);
  assert.equal(guest.ticks, 50);
  const [memory = Buffer.alloc(0), rom = Buffer.alloc(0)] = allMemory(guest);
  assert.equal(memory.readBigUInt64LE(64), 50n);
  assert.ok(rom.equals(before[1] ?? Buffer.alloc(0)), 'the ROM never changes');
  // 8 MiB a second for half a second of guest time.
  const { sections } = guest.saveDevices();
  const registers = Buffer.from(sections).indexOf('mapram builtin\0\0') + 16;
  assert.equal(Buffer.from(sections).readBigUInt64BE(registers + 8), BigInt((4 * MIB) / 4096));
});

test('the dirty log names every page that changed, once', async () => {
  await using guest = await BuiltinGuest.start({ ...SMALL, blocks: 2, begin: 'paused' });
  await guest.step(5);
  const logs = guest.blocks.map((block) => new Uint8Array(block.usedLength / 4096 / 8));
  const sync = () => guest.blocks.map((_, block) => guest.syncDirty(block, logs[block] ?? new Uint8Array(0)));
  assert.deepEqual(sync(), [0, 0, 0], 'nothing is logged before the log is started');
  guest.startDirtyLog();
  const before = allMemory(guest);
  await guest.step(20);
  const counts = sync();
  const after = allMemory(guest);
  guest.blocks.forEach((block, index) => {
    let changed = 0;
    let dirty = 0;
    for (let page = 0; page < block.usedLength / 4096; page += 1) {
      const at = page * 4096;
      const isDirty = (((logs[index]?.[page >> 3] ?? 0) >> (page & 7)) & 1) === 1;
      const differs =
        before[index]?.compare(after[index] ?? Buffer.alloc(0), at, at + 4096, at, at + 4096) !== 0;
      assert.ok(isDirty || !differs, `page ${page} of ${block.idstr} changed unseen`);
      changed += differs ? 1 : 0;
      dirty += isDirty ? 1 : 0;
    }
    assert.equal(counts[index], dirty);
    assert.equal(changed > 0, index < 2, block.idstr);
  });
  assert.deepEqual(sync(), [0, 0, 0], 'fetched bits are gone');
  guest.stopDirtyLog();
  await guest.step(5);
  assert.deepEqual(sync(), [0, 0, 0], 'nothing is logged after the log was stopped');
});

test('running: the counter moves by itself, stop makes memory stand still, cont goes on', async () => {
  await using guest = await BuiltinGuest.start(SMALL);
  const states: string[] = [];
  guest.on('runState', (state) => states.push(state));
  assert.equal(guest.runState, 'running');
  while (guest.ticks < 3) await sleep(5);
  await Promise.all([guest.stop(), guest.stop()]);
  const { ticks } = guest;
  const memory = allMemory(guest);
  await sleep(50);
  assert.equal(guest.ticks, ticks);
  assert.deepEqual(allMemory(guest), memory);
  assert.equal((await guest.checkMemory()).ok, true);
  await guest.cont();
  while (guest.ticks === ticks) await sleep(5);
  await guest.stop('finish-migrate');
  guest.markSaved();
  await guest.cont();
  assert.deepEqual(states, ['paused', 'running', 'finish-migrate', 'postmigrate', 'running']);
});

test('several calls of cont start one run, and stop waits for it', async () => {
  await using guest = await BuiltinGuest.start({ ...SMALL, begin: 'paused' });
  const started = [guest.cont(), guest.cont()];
  await guest.stop();
  await Promise.all(started);
  assert.equal(guest.runState, 'paused');
  const { ticks } = guest;
  await guest.step(1);
  assert.equal(guest.ticks, ticks + 1);
});

test('a guest that was saved and loaded lives on exactly as one that was not', async () => {
  await using original = await BuiltinGuest.start({ ...SMALL, blocks: 2, begin: 'paused' });
  await using copy = await BuiltinGuest.start({ ...SMALL, blocks: 2, begin: 'incoming' });
  assert.equal(copy.runState, 'inmigrate');
  await original.step(250);
  transplant(original, copy);
  assert.deepEqual([copy.runState, copy.ticks], ['paused', 250]);
  assert.deepEqual((await copy.checkMemory()).ok, true);
  await original.step(100);
  await copy.step(100);
  assert.deepEqual(allMemory(copy), allMemory(original));
  assert.deepEqual(copy.saveDevices(), original.saveDevices());
});

test('a loaded guest refuses to run on memory that is not its own', async () => {
  await using original = await BuiltinGuest.start({ ...SMALL, begin: 'paused' });
  await original.step(10);
  const damages: [string, (block: GuestRamBlock) => void][] = [
    ['one bit', ({ fd }) => writeSync(fd, Uint8Array.of(1), 0, 1, 100)],
    [
      'two pages exchanged',
      ({ fd }) => {
        const pages = Buffer.alloc(8192);
        readSync(fd, pages, 0, 8192, 3 * MIB);
        writeSync(fd, pages, 4096, 4096, 3 * MIB);
        writeSync(fd, pages, 0, 4096, 3 * MIB + 4096);
      },
    ],
    ['a page where a zero page was', ({ fd }) => writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, 7 * MIB)],
  ];
  for (const [name, damage] of damages) {
    await using copy = await BuiltinGuest.start({ ...SMALL, begin: 'incoming' });
    transplant(original, copy);
    damage(copy.blocks[0] as GuestRamBlock);
    await assert.rejects(copy.cont(), failsWith('VM', /is not the memory that was saved/), name);
    assert.equal(copy.runState, 'guest-panicked');
  }
});

test('what cannot be done in a state says so', async () => {
  await using guest = await BuiltinGuest.start(SMALL);
  assert.throws(() => guest.saveDevices(), failsWith('VM', /it is running; it must be stopped first/));
  assert.throws(
    () => guest.loadDevices(new Uint8Array(0)),
    failsWith('VM', /only a guest that was begun as incoming/),
  );
  await assert.rejects(guest.step(1), failsWith('VM'));
  await using incoming = await BuiltinGuest.start({ ...SMALL, begin: 'incoming' });
  await assert.rejects(incoming.cont(), failsWith('VM', /nothing was loaded into it yet/));
});

test('damaged device sections are refused with the place', async () => {
  await using guest = await BuiltinGuest.start({ ...SMALL, begin: 'paused' });
  await guest.step(100);
  const { sections } = guest.saveDevices();
  const attempt = async (bytes: Uint8Array) => {
    await using incoming = await BuiltinGuest.start({ ...SMALL, size: MIB, begin: 'incoming' });
    incoming.loadDevices(bytes);
  };
  const changed = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(sections);
    change(bytes);
    return bytes;
  };
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /device timer is missing at byte 0/],
    ['cut', sections.subarray(0, sections.length - 1), /the footer of section \d was expected/],
    ['type', changed((bytes) => bytes.writeUInt8(1, 0)), /a device section was expected at byte 0/],
    ['name', changed((bytes) => bytes.write('tImer', 6)), /unknown or repeated device "tImer"/],
    ['twice', Buffer.concat([sections, sections]), /unknown or repeated device "timer"/],
    [
      'version',
      changed((bytes) => bytes.writeUInt32BE(7, 15)),
      /version 7 of timer is not supported, only 2/,
    ],
    ['clock', changed((bytes) => bytes.writeUInt8(1, 26)), /device timer: no tick falls on/],
    [
      'model',
      changed((bytes) => bytes.write('X', bytes.indexOf('mapram builtin'))),
      /the CPU is another model/,
    ],
  ];
  for (const [name, bytes, message] of cases) {
    await assert.rejects(attempt(bytes), failsWith('FORMAT', message), name);
  }
});

test('disposing ends the thread and closes the memory, whatever the state', async () => {
  const running = await BuiltinGuest.start(SMALL);
  const { fd } = running.blocks[0] as GuestRamBlock;
  await Promise.all([running[Symbol.asyncDispose](), running[Symbol.asyncDispose]()]);
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
  await assert.rejects(running.checkMemory(), failsWith('VM'));
});
