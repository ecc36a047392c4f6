/**
 * File channels against fio: the same number of bytes written to a fresh file with O_DIRECT, made durable, in alternating
 * rounds.
 *
 *     node build/bench/channels.js [--directory DIR] [--gib 4] [--rounds 7] [--channels 2,4] [--io-size 4096] [--pattern stripes]
 *
 * Patterns of memory: `stripes` every fourth MiB zero (in turn zero pages and holes), the rest random; `full` all random;
 * `alternate` every second page zero; `scattered` one page in ten zero. Times are wall clock from the first byte to
 * the end of fdatasync; CPU is that of this process (fio's is not counted).
 */
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, constants, fdatasyncSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createMemfd } from '../src/io/memfd.js';
import { MemoryMap } from '../src/io/memory-map.js';
import { regionBitmapBytes } from '../src/multifd/channel-region.js';
import { FileChannels } from '../src/multifd/file-channels.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const PAGE = 4 * KIB;

const { values: options } = parseArgs({
  options: {
    directory: { type: 'string', default: tmpdir() },
    gib: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '7' },
    channels: { type: 'string', default: '2,4' },
    'io-size': { type: 'string', default: '4096' },
    pattern: { type: 'string', default: 'stripes' },
  },
});

interface Run {
  milliseconds: number;
  bytes: number;
  userMs: number;
  systemMs: number;
}

type Contender = { name: string; run(): Promise<Run> };

/** Whether a page of the guest holds data, is an allocated zero page, or is a hole. */
function kindOf(page: number): 'data' | 'zero' | 'hole' {
  const mib = Math.floor((page * PAGE) / MIB);
  switch (options.pattern) {
    case 'full':
      return 'data';
    case 'alternate':
      return page % 2 === 0 ? 'data' : 'zero';
    case 'scattered':
      return page % 10 === 9 ? 'zero' : 'data';
    default:
      return mib % 4 !== 3 ? 'data' : mib % 8 === 3 ? 'zero' : 'hole';
  }
}

function fillGuest(fd: number, length: number): number {
  const random = randomFillSync(Buffer.allocUnsafe(64 * MIB));
  using map = MemoryMap.open({ fd, offset: 0, length, writable: true });
  let dataBytes = 0;
  for (let start = 0; start < length; start += MIB) {
    for (let at = start; at < start + MIB; at += PAGE) {
      const kind = kindOf(at / PAGE);
      if (kind === 'hole') continue;
      const page = map.view(at, PAGE);
      if (kind === 'zero') {
        page.fill(0);
        continue;
      }
      random.copy(page, 0, at % random.length, (at % random.length) + PAGE);
      page.writeUInt32LE(at / PAGE + 1);
      dataBytes += PAGE;
    }
  }
  return dataBytes;
}

function channelContender(fd: number, length: number, count: number, ioSize: number): Contender {
  const file = path.join(options.directory, 'mapram-bench-channels');
  return {
    name: `mapram, ${count} channels`,
    async run() {
      rmSync(file, { force: true });
      const main = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
      await using channels = await FileChannels.open({
        path: file,
        access: 'write',
        count,
        direct: true,
        ioSize,
        regions: [
          {
            fd,
            fdOffset: 0,
            length,
            pagesOffset: MIB,
            pageSize: PAGE,
            bitmap: new SharedArrayBuffer(regionBitmapBytes(length, PAGE)),
          },
        ],
      });
      const cpu = process.cpuUsage();
      const start = performance.now();
      const { bytes } = await channels.transfer();
      ftruncateSync(main, MIB + length);
      fdatasyncSync(main);
      const milliseconds = performance.now() - start;
      const { user, system } = process.cpuUsage(cpu);
      closeSync(main);
      rmSync(file);
      return { milliseconds, bytes, userMs: user / 1000, systemMs: system / 1000 };
    },
  };
}

function fioContender(bytes: number, engine: string, jobs: number, depth: number): Contender {
  const file = path.join(options.directory, 'mapram-bench-fio');
  const share = Math.floor(bytes / jobs / (4 * MIB)) * 4 * MIB;
  return {
    name: `fio ${engine} × ${jobs}, depth ${depth}`,
    async run() {
      rmSync(file, { force: true });
      const { stdout, stderr } = spawnSync(
        'fio',
        [
          '--name=write',
          `--filename=${file}`,
          '--rw=write',
          '--bs=4m',
          '--direct=1',
          '--end_fsync=1',
          '--fallocate=keep',
          `--ioengine=${engine}`,
          `--iodepth=${depth}`,
          `--numjobs=${jobs}`,
          `--size=${share}`,
          `--offset_increment=${share}`,
          '--output-format=json',
        ],
        { encoding: 'utf8' },
      );
      rmSync(file, { force: true });
      const report = stdout.slice(stdout.indexOf('{'));
      if (report === '') throw new Error(`fio gave no report: ${stderr}`);
      const parsed = JSON.parse(report) as { jobs: { job_runtime: number; write: { io_bytes: number } }[] };
      return {
        milliseconds: Math.max(...parsed.jobs.map((job) => job.job_runtime)),
        bytes: parsed.jobs.reduce((sum, { write }) => sum + write.io_bytes, 0),
        userMs: Number.NaN,
        systemMs: Number.NaN,
      };
    },
  };
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

const length = Number(options.gib) * 1024 * MIB;
const fd = createMemfd('mapram-bench', length);
const dataBytes = fillGuest(fd, length);
const contenders = [
  ...options.channels
    .split(',')
    .map((count) => channelContender(fd, length, Number(count), Number(options['io-size']) * KIB)),
  fioContender(dataBytes, 'psync', 2, 1),
  fioContender(dataBytes, 'psync', 4, 1),
  fioContender(dataBytes, 'io_uring', 1, 8),
];
const results = new Map<string, Run[]>(contenders.map(({ name }) => [name, []]));
for (let round = 0; round < Number(options.rounds); round++) {
  for (const { name, run } of round % 2 === 0 ? contenders : contenders.toReversed()) {
    results.get(name)?.push(await run());
  }
}
closeSync(fd);

console.log(
  `${cpus().length} × ${cpus()[0]?.model}, Linux ${release()}, Node ${process.version}, load ${loadavg()[0]?.toFixed(1)}; ` +
    `${options.gib} GiB of memory, pattern ${options.pattern}, ${(dataBytes / MIB).toFixed(0)} MiB of data, ${options.rounds} rounds\n`,
);
console.log('| | median ms | from | to | MB/s written | user ms | system ms |');
console.log('|---|---|---|---|---|---|---|');
for (const [name, runs] of results) {
  const times = runs.map(({ milliseconds }) => milliseconds);
  const rate = median(runs.map(({ bytes, milliseconds }) => bytes / milliseconds / 1000));
  const cells = [
    median(times),
    Math.min(...times),
    Math.max(...times),
    rate,
    median(runs.map(({ userMs }) => userMs)),
    median(runs.map(({ systemMs }) => systemMs)),
  ].map((value) => (Number.isNaN(value) ? '–' : value.toFixed(0)));
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}
