/** Saved VMs on a disk with a bad sector, in their memory or in their device state. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { runCli } from '../cli/run-cli.js';
import { writeSealedImage } from '../manifest/sample.js';
import { withBadSectors } from '../support/bad-sectors.js';
import { needsFuse } from '../support/fuse.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { writeBuiltinImage } from './builtin-image.js';

const PAGE = 4096;

describe('on a disk with a bad sector', needsFuse(), () => {
  const root = temporaryFolder('bad-sectors');
  const [sound, unsealed] = [path.join(root, 'sound'), path.join(root, 'unsealed')];
  const output = path.join(root, 'output');
  /** Where a page of the memory and the device state are; the bytes of all pages. */
  const at = { memory: 0, devices: 0 };
  let allBytes = 0;
  let names = 0;

  before(async () => {
    const options = { guest: { size: 4 << 20 }, ticks: 300 };
    await writeSealedImage(sound, options);
    await writeBuiltinImage(unsealed, options);
    await using image = await MappedRamImage.open(sound);
    const [block] = image.blocks;
    assert.ok(block, 'there is no block');
    const [run] = image.runs(block, 1);
    at.memory = block.pagesOffset + (run?.first ?? 0) * PAGE;
    at.devices = image.tailOffset ?? 0;
    allBytes = image.blocks.reduce((sum, { bitmap }) => sum + bitmap.count() * PAGE, 0);
  });

  const onBadDisk = (place: keyof typeof at) => {
    names += 1;
    const start = at[place];
    return withBadSectors(sound, path.join(root, `mount-${names}`), { start, end: start + 1 });
  };

  const readers: [string, (file: string) => string[]][] = [
    ['inspect --map', (file) => ['inspect', file, '--map']],
    ['diff with a file without checksums', (file) => ['diff', file, unsealed]],
    ['diff --read-all', (file) => ['diff', file, sound, '--read-all']],
    ...['raw', 'stream', 'mapped-ram'].map((form): [string, (file: string) => string[]] => [
      `convert to ${form}`,
      (file) => ['convert', file, output, '--to', form],
    ]),
  ];
  for (const [name, args] of readers) {
    test(`${name} fails with the place of the page in the file and leaves nothing (R07)`, async () => {
      await using disk = await onBadDisk('memory');
      const { code, result, stderr } = await runCli([...args(disk.file), '--json']);
      const error = result.error as { code: string; message: string; offset: number };
      assert.deepEqual([code, error.code, error.offset], [1, 'IO', at.memory], stderr);
      assert.match(error.message, new RegExp(`^reading ${disk.file}: i/o error at offset ${at.memory}$`));
      assert.ok(!existsSync(output), 'there is an output');
    });
  }

  for (const command of ['inspect', 'verify', 'diff', 'convert'] as const) {
    test(`${command} fails with the place of device state that cannot be read (R07)`, async () => {
      await using disk = await onBadDisk('devices');
      const more = { inspect: [], verify: [], diff: [sound], convert: [output, '--to', 'raw'] }[command];
      const { code, result } = await runCli([command, disk.file, ...more, '--json']);
      const error = result.error as { code: string; offset: number };
      // The kernel reads whole pages.
      assert.deepEqual([code, error.code, error.offset], [1, 'IO', at.devices - (at.devices % PAGE)]);
      assert.ok(!existsSync(output), 'there is an output');
    });
  }

  test('verify names the place, checks the rest, and does not count what it could not read (R07)', async () => {
    await using disk = await onBadDisk('memory');
    const { code, result, stderr } = await runCli(['verify', disk.file, '--json']);
    const [problem, ...others] = result.problems as {
      kind: string;
      offset: number;
      length: number;
      message: string;
    }[];
    assert.deepEqual(
      [code, others, problem?.kind, problem?.offset, problem?.length],
      [1, [], 'unreadable', at.memory, 1 << 20],
    );
    assert.match(
      stderr,
      new RegExp(`cannot be read from the disk, where it is at offset ${at.memory} of the file`),
    );
    const whole = await runCli(['verify', sound, '--json']);
    assert.ok(Number(whole.result.checkedBytes) > allBytes);
    const less = Number(whole.result.checkedBytes) - Number(result.checkedBytes);
    assert.ok(less >= PAGE && less <= 1 << 20 && less % PAGE === 0, `${less} bytes less`);
  });

  test('what reads no memory reports that: inspect, verify --structure, diff by checksums (R07)', async () => {
    await using disk = await onBadDisk('memory');
    const inspected = await runCli(['inspect', disk.file, '--json']);
    assert.deepEqual([inspected.code, inspected.result.problems], [0, []]);
    const structure = await runCli(['verify', disk.file, '--structure', '--json']);
    assert.deepEqual([structure.code, structure.result.memory], [0, 'not-asked']);
    const { code, result, stderr } = await runCli(['diff', disk.file, sound, '--json']);
    assert.deepEqual([code, result.readBytes, result.unreadBytes], [0, 0, allBytes], stderr);
  });
});
