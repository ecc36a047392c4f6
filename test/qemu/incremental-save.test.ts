/** Saving a VM that runs from a file: what it has not changed is taken from there. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkManifest } from '../../src/manifest/check-manifest.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import type { ResumedVm } from '../../src/snapshot/resume/resumed-vm.js';
import { type SaveOptions, type SaveResult, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { saveMappedRam } from '../support/native-migration.js';
import { sha256 } from '../support/probes.js';
import { startVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { assertMemoryIsThatOf, consoleIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('an incremental save', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let base: string;
  let command: readonly string[];
  let source: string;
  let counter: number;
  let bootChecksum: string | undefined;
  let folders = 0;

  before(async () => {
    folder = temporaryFolder('incremental');
    base = path.join(folder, 'base.mapram');
    await using vm = await startVm();
    await saveMappedRam(vm, base);
    command = vm.commandLine;
    source = vm.folder;
    counter = vm.console.counter;
    bootChecksum = vm.console.bootChecksum;
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  async function resumeFrom(file: string): Promise<{ vm: ResumedVm; sockets: string }> {
    folders += 1;
    const sockets = path.join(folder, String(folders));
    mkdirSync(sockets);
    const moved = command.map((word) => word.replaceAll(source, sockets));
    return { vm: await resume({ file, command: moved }), sockets };
  }

  async function saveAgain(
    qmp: string,
    file: string,
    options: Partial<SaveOptions> = {},
  ): Promise<SaveResult> {
    return await save({ vm: qmp, file, onWarning() {}, ...options });
  }

  /** Lets the guest change something, saves it, and lets a guest from the new file check itself. */
  async function assertSavesAgain(file: string, options: Partial<SaveOptions> = {}): Promise<SaveResult> {
    const from = await resumeFrom(base);
    await using vm = from.vm;
    const console = await consoleIn(from.sockets);
    await console.waitForCounterAbove(counter + 10);
    const result = await saveAgain(vm.facts.qmp, file, options);
    assert.equal(result.method, 'incremental');
    assert.equal(result.runState, 'running');
    await console.waitForCounterAbove();
    assert.deepEqual(console.torn, []);
    console.close();
    await vm.end();

    const again = await resumeFrom(file);
    await using second = again.vm;
    assert.equal(second.facts.runState, 'running');
    const secondConsole = await consoleIn(again.sockets);
    await secondConsole.waitForCounterAbove(counter + 10);
    assert.equal(await secondConsole.checksum(), bootChecksum);
    await secondConsole.waitForCounterAbove();
    assert.deepEqual(secondConsole.torn, []);
    secondConsole.close();
    return result;
  }

  test('holds the whole guest, of which it wrote what had changed', async () => {
    const untouched = await sha256(base);
    const file = path.join(folder, 'second.mapram');
    const result = await assertSavesAgain(file);
    assert.equal(result.base?.file, base);
    const { changedPages = 0 } = result.base ?? {};
    assert.ok(changedPages > 0 && changedPages < result.normalPages / 2, `${changedPages} pages`);
    assert.equal(await sha256(base), untouched);
    assert.deepEqual((await verify({ file })).problems, []);
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(image.problems, []);
    assert.ok(
      image.devices.every(({ delimitedBy }) => delimitedBy === 'description'),
      'a device is not delimited by the description',
    );
  });

  const firstSaves: Record<string, Partial<SaveOptions>> = {
    xxh64: {},
    'xxh64-pages': { method: 'stream', channels: 2 },
  };
  for (const [algorithm, how] of Object.entries(firstSaves))
    test(`keeps the checksums of what has not changed, and those of the rest are right, ${algorithm}`, async () => {
      const first = path.join(folder, `first-${algorithm}.mapram`);
      {
        const { vm } = await resumeFrom(base);
        await using running = vm;
        await saveAgain(running.facts.qmp, first, how);
      }
      const { vm, sockets } = await resumeFrom(first);
      await using running = vm;
      const console = await consoleIn(sockets);
      await console.waitForCounterAbove(counter + 5);
      console.close();
      const file = path.join(folder, `third-${algorithm}.mapram`);
      const result = await saveAgain(running.facts.qmp, file);
      assert.equal(result.checksums, algorithm);
      assert.deepEqual((await verify({ file })).problems, []);
      // Nothing vouches for the copied ones but that they are those of the base where the pages are.
      const digests = async (of: string) => {
        await using image = await MappedRamImage.open(of);
        const { manifest } = await checkManifest(image);
        return Buffer.from(manifest?.blocks[0]?.digests ?? '', 'base64');
      };
      const [before, now] = [await digests(first), await digests(file)];
      const same = Array.from({ length: now.length / 8 }, (_, chunk) =>
        now.subarray(chunk * 8, chunk * 8 + 8).equals(before.subarray(chunk * 8, chunk * 8 + 8)),
      ).filter(Boolean).length;
      assert.ok(same > now.length / 16, `${same} of ${now.length / 8} chunks are as before`);
    });

  test('holds exactly the memory of a stopped guest, also through the page cache and at an offset', async () => {
    const { vm, sockets } = await resumeFrom(base);
    await using running = vm;
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove(counter + 5);
    console.close();
    const file = path.join(folder, 'stopped.mapram');
    const session = await QmpSession.open(running.facts.qmp);
    await session.execute('stop');
    session.close();
    const result = await saveAgain(running.facts.qmp, file, { directIo: 'off', offset: 8192 });
    assert.equal(result.method, 'incremental');
    assert.equal(result.runState, 'paused');
    await assertMemoryIsThatOf(file, running.facts.qmp, { offset: 8192 });
  });

  test('does not need the name of the base any more', async () => {
    const copy = path.join(folder, 'copy.mapram');
    execFileSync('cp', ['--sparse=always', base, copy]);
    const { vm, sockets } = await resumeFrom(copy);
    await using running = vm;
    unlinkSync(copy);
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove(counter + 2);
    console.close();
    const { method } = await saveAgain(running.facts.qmp, path.join(folder, 'orphan.mapram'));
    assert.equal(method, 'incremental');
  });

  test('is refused for a VM that was not resumed from a file', async () => {
    await using vm = await startVm();
    const file = path.join(folder, 'refused.mapram');
    await assert.rejects(
      saveAgain(vm.qmpPath, file, { method: 'incremental' }),
      failsWith('UNSUPPORTED', /not that of a mapped-ram file/),
    );
  });

  test('leaves the guest running when it is cancelled', async () => {
    const { vm, sockets } = await resumeFrom(base);
    await using running = vm;
    const cancel = new AbortController();
    const file = path.join(folder, 'cancelled.mapram');
    const saving = saveAgain(running.facts.qmp, file, {
      signal: cancel.signal,
      onProgress: () => cancel.abort(),
    });
    await assert.rejects(saving);
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove(counter + 2);
    assert.deepEqual(console.torn, []);
    console.close();
  });

  describe('on XFS', needs({ tools: ['mkfs.xfs'] }), () => {
    let mount: string | undefined;

    before(() => {
      const disk = path.join(folder, 'xfs.img');
      const point = path.join(folder, 'xfs');
      writeFileSync(disk, '');
      truncateSync(disk, 400 << 20);
      mkdirSync(point);
      try {
        execFileSync('mkfs.xfs', ['-q', disk]);
        execFileSync('mount', ['-o', 'loop', disk, point], { stdio: 'pipe' });
        mount = point;
      } catch {
        // Not root, or in a container: there is no XFS to try.
      }
    });
    after(() => {
      if (mount !== undefined) execFileSync('umount', [mount]);
    });

    test('shares what has not changed', async (t) => {
      if (mount === undefined) return t.skip('no XFS can be mounted here');
      const shared = path.join(mount, 'base.mapram');
      execFileSync('cp', ['--sparse=always', base, shared]);
      const free = () =>
        Number(
          execFileSync('df', ['--output=avail', '-B1', mount as string], { encoding: 'utf8' }).split('\n')[1],
        );
      const usual = base;
      base = shared;
      try {
        execFileSync('sync', ['-f', mount]);
        const before = free();
        const { base: figures, normalBytes } = await assertSavesAgain(path.join(mount, 'second.mapram'));
        assert.equal(figures?.shared, true);
        execFileSync('sync', ['-f', mount]);
        const taken = before - free();
        assert.ok(taken < normalBytes / 2, `${taken} of ${normalBytes} bytes`);
      } finally {
        base = usual;
      }
    });
  });
});
