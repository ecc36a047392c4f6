/** Memory whose file is cut short while channels use it: the process that maps it must not die of SIGBUS. */
import assert from 'node:assert/strict';
import { constants, openSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileChannels } from '../../src/channels/file/file-channels.js';
import { MemoryPages } from '../../src/channels/memory-pages.js';
import { DigestTable } from '../../src/checksums/digest-table.js';
import { MapramError } from '../../src/errors.js';
import { type InstalledFaults, type IoCall, installFaults } from '../../src/io/faults.js';
import { block, MIB, PAGE, pageOf, pokePage, Scratch } from './fixtures.js';

const LENGTH = 16 * MIB;

/** Memory without a zero page, in a file that has a name. */
function memoryFile(scratch: Scratch): { file: string; fd: number } {
  const file = scratch.file('guest.ram');
  writeFileSync(file, '');
  const fd = scratch.own(openSync(file, constants.O_RDWR));
  for (let page = 0; page < LENGTH / PAGE; page++) pokePage(fd, page, pageOf(page + 1));
  return { file, fd };
}

async function openChannels(
  scratch: Scratch,
  fd: number,
  access: 'read' | 'write',
  direct: boolean,
): Promise<FileChannels> {
  const digests = DigestTable.create({ algorithm: 'xxh64', chunkBytes: MIB, length: LENGTH });
  const bitmap = new SharedArrayBuffer(LENGTH / PAGE / 8);
  new Uint8Array(bitmap).fill(access === 'read' ? 0xff : 0);
  return await FileChannels.open({
    path: scratch.image(MIB + LENGTH),
    access,
    count: 2,
    direct,
    blocks: [block(fd, LENGTH, { bitmap, ...(access === 'write' ? { digests: digests.shape } : {}) })],
  });
}

const namesTheFile = (file: string) => (error: unknown) => {
  assert.ok(error instanceof MapramError, String(error));
  assert.equal(error.code, 'VM');
  assert.equal(error.path, file);
  assert.match(error.message, /guest\.ram: the file was cut short to \d+ bytes, 16777216 are in use/);
  return true;
};

/** Waits until a channel is about to make a call, which is then held up for a while. */
async function reached(faults: InstalledFaults, call: IoCall, count: number): Promise<void> {
  while (faults.counts()[call] < count) await sleep(1);
}

/** The call that moves pages, by access. */
const MOVES = { read: 'read', write: 'write' } as const;

for (const access of ['write', 'read'] as const) {
  for (const direct of [true, false]) {
    const how = `${access === 'write' ? 'saved' : 'loaded'} ${direct ? 'by direct I/O' : 'through the page cache'}`;
    test(`memory that is cut short while it is ${how} is an error that names its file (F10)`, async () => {
      using scratch = new Scratch();
      const { file, fd } = memoryFile(scratch);
      const call = MOVES[access];
      using faults = installFaults([{ call, nth: 1, times: Number.POSITIVE_INFINITY, delayMs: 200 }]);
      const before = faults.counts()[call];
      await using channels = await openChannels(scratch, fd, access, direct);
      const transfer = channels.transfer();
      transfer.catch(() => {});
      await reached(faults, call, before + 1);
      truncateSync(file, 0);
      await assert.rejects(transfer, namesTheFile(file));
    });
  }

  test(`memory that was cut short is not ${access === 'write' ? 'saved as zeros' : 'loaded'} (F10)`, async () => {
    using scratch = new Scratch();
    const { file, fd } = memoryFile(scratch);
    await using channels = await openChannels(scratch, fd, access, true);
    truncateSync(file, 5 * MIB);
    await assert.rejects(channels.transfer(), namesTheFile(file));
  });
}

test('memory that was cut short is not sent as zeros (F10)', () => {
  using scratch = new Scratch();
  const { file, fd } = memoryFile(scratch);
  const pages = new MemoryPages({ kind: 'memory', blocks: [block(fd, LENGTH)], detectZeros: true });
  const read = (chunk: number) => pages.read(chunk, { contents: true });
  assert.deepEqual(read(0)?.zeros, []);
  truncateSync(file, MIB / 4);
  assert.throws(() => read(0), namesTheFile(file));
  assert.throws(() => read(pages.chunks - 1), namesTheFile(file));
});
