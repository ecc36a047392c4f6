import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, readFileSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { dataExtents } from '../../../src/io/file/data-extents.js';
import { allocatedBytes, punchHole } from '../../../src/io/file/file-space.js';
import { createMemfd } from '../../../src/io/memory/memfd.js';
import { MemoryMap, WINDOW_BYTES } from '../../../src/io/memory/memory-map.js';
import { failsWith } from '../../support/fails-with.js';

const MIB = 1024 ** 2;

function withMemfd(length: number, use: (fd: number) => void): void {
  const fd = createMemfd('mapram-test', length);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

test('a mapping shows the file and changes it', () => {
  withMemfd(4 * MIB, (fd) => {
    using map = MemoryMap.open({ fd, offset: MIB, length: 2 * MIB, writable: true });
    map.view(0, 5).write('hello', 'latin1');
    map.view(2 * MIB - 3, 3).write('end', 'latin1');
    const back = Buffer.alloc(5);
    readSync(fd, back, 0, 5, MIB);
    assert.equal(back.toString(), 'hello');
    writeSync(fd, 'HELLO', MIB);
    assert.equal(map.view(0, 5).toString(), 'HELLO');
    assert.throws(() => map.view(2 * MIB - 3, 4), RangeError);
    assert.throws(() => map.view(-1, 4), RangeError);
  });
});

test('copy-on-write changes stay here', () => {
  withMemfd(MIB, (fd) => {
    using map = MemoryMap.open({ fd, offset: 0, length: MIB, writable: true, copyOnWrite: true });
    map.view(0, 5).write('hello', 'latin1');
    assert.equal(map.view(0, 5).toString(), 'hello');
    const back = Buffer.alloc(5);
    readSync(fd, back, 0, 5, 0);
    assert.ok(back.equals(Buffer.alloc(5)), 'the memory is not zero');
  });
});

test('mappings of several windows: each reached, no view across a border', () => {
  withMemfd(6 * WINDOW_BYTES, (fd) => {
    using map = MemoryMap.open({ fd, offset: 4096, length: 5 * WINDOW_BYTES, writable: true });
    for (const window of [0, 1, 4]) {
      const start = window * WINDOW_BYTES + 4096;
      map.view(start, 4).writeUInt32LE(window + 1);
      const back = Buffer.alloc(4);
      readSync(fd, back, 0, 4, start + 4096);
      assert.equal(back.readUInt32LE(), window + 1);
    }
    assert.throws(() => map.view(WINDOW_BYTES - 2, 4), /crosses/);
    assert.equal(map.view(WINDOW_BYTES - 4, 4).length, 4);
  });
});

test('after close old views read as zeros and the address space comes back', () => {
  const script = `
    import { createMemfd } from ${JSON.stringify(import.meta.resolve('../../../src/io/memory/memfd.js'))};
    import { MemoryMap } from ${JSON.stringify(import.meta.resolve('../../../src/io/memory/memory-map.js'))};
    import { readFileSync } from 'node:fs';
    const fd = createMemfd('mapram-close', 4096 * 16);
    let map = MemoryMap.open({ fd, offset: 0, length: 4096 * 16, writable: true });
    const start = map.address.address.toString(16).padStart(12, '0');
    let view = map.view(0, 8);
    view.fill(7);
    map.close();
    map.close();
    if (view[0] !== 0) throw new Error('old bytes');
    view[0] = 1;
    let refused = false;
    try { map.view(0, 1); } catch { refused = true; }
    if (!refused) throw new Error('a closed mapping gave a view');
    const listed = () => readFileSync('/proc/self/maps', 'latin1').split('\\n').some((line) => line.startsWith(start + '-'));
    if (!listed()) throw new Error('gave the addresses back too early');
    map = view = undefined;
    for (let round = 0; round < 50 && listed(); round++) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    if (listed()) throw new Error('kept the addresses');
    console.log('good');
  `;
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
  assert.equal(stdout.trim(), 'good', stderr);
  assert.equal(status, 0);
});

test('a mapping nobody looked at is unmapped at once', () => {
  withMemfd(MIB, (fd) => {
    const map = MemoryMap.open({ fd, offset: 0, length: MIB });
    const start = map.address.address.toString(16);
    assert.match(readFileSync('/proc/self/maps', 'latin1'), new RegExp(`^0*${start}-`, 'm'));
    map.close();
    assert.doesNotMatch(
      readFileSync('/proc/self/maps', 'latin1'),
      new RegExp(`^0*${start}-.*mapram-test`, 'm'),
    );
  });
});

test('a worker sees the same bytes through the address', async () => {
  const fd = createMemfd('mapram-test', MIB);
  const map = MemoryMap.open({ fd, offset: 0, length: MIB, writable: true });
  try {
    const script = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.module).then(({ MemoryWindows }) => {
        new MemoryWindows(workerData.address).view(100, 4).writeUInt32LE(0x12345678);
        parentPort.postMessage('done');
      });
    `;
    const worker = new Worker(script, {
      eval: true,
      workerData: {
        module: import.meta.resolve('../../../src/io/memory/memory-map.js'),
        address: map.address,
      },
    });
    await new Promise((resolve, reject) => {
      worker.once('exit', resolve);
      worker.once('error', reject);
    });
    assert.equal(map.view(100, 4).readUInt32LE(), 0x12345678);
  } finally {
    map.close();
    closeSync(fd);
  }
});

test('a range past the end of the file is refused, with both numbers', () => {
  withMemfd(MIB, (fd) => {
    assert.throws(
      () => MemoryMap.open({ fd, offset: 4096, length: MIB, path: 'guest.ram' }),
      failsWith('IO', /1048576 bytes at 4096 of guest.ram: the file has only 1048576/),
    );
  });
});

test('data extents skip holes, also after punching, and reading them allocates nothing', () => {
  withMemfd(8 * MIB, (fd) => {
    assert.deepEqual([...dataExtents(fd, 0, 8 * MIB)], []);
    writeSync(fd, Buffer.alloc(MIB, 1), 0, MIB, MIB);
    writeSync(fd, 'x', 5 * MIB);
    assert.deepEqual(
      [...dataExtents(fd, 0, 8 * MIB)],
      [
        { start: MIB, end: 2 * MIB },
        { start: 5 * MIB, end: 5 * MIB + 4096 },
      ],
    );
    assert.deepEqual([...dataExtents(fd, MIB + 100, MIB + 200)], [{ start: MIB + 100, end: MIB + 200 }]);
    assert.equal(punchHole(fd, MIB, MIB / 2), true);
    assert.deepEqual([...dataExtents(fd, 0, 4 * MIB)], [{ start: 1.5 * MIB, end: 2 * MIB }]);
    assert.deepEqual([...dataExtents(fd, 8 * MIB, 9 * MIB)], []);
    assert.equal(allocatedBytes(fd), MIB / 2 + 4096);
  });
});
