/** Resuming what may be damaged: structure and device state are checked before, memory while the guest runs. */

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { closeSync, copyFileSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { planResume, type ResumeOptions, resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { runCli } from '../cli/run-cli.js';
import { needs } from '../support/environment.js';
import { saveMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { commandIn, consoleIn, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('a file that may be damaged', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let vm: TestVm;
  /** Sound; its memory damaged in one page; its device state damaged; written by QEMU; signed; signed and damaged. */
  const files = { sound: '', page: '', device: '', foreign: '', signed: '', signedPage: '' };
  let publicKey: string;
  let names = 0;

  before(async () => {
    folder = temporaryFolder('resume-verify');
    for (const name of Object.keys(files) as (keyof typeof files)[]) files[name] = path.join(folder, name);
    const keys = generateKeyPairSync('ed25519');
    publicKey = path.join(folder, 'key.pub');
    const signingKey = path.join(folder, 'key.pem');
    await writeFile(signingKey, keys.privateKey.export({ format: 'pem', type: 'pkcs8' }));
    await writeFile(publicKey, keys.publicKey.export({ format: 'pem', type: 'spki' }));
    vm = await startVm({ memory: 'shared-file' });
    await save({ vm: vm.qmpPath, file: files.sound, method: 'shared' });
    await save({ vm: vm.qmpPath, file: files.signed, method: 'shared', sign: signingKey });
    await saveMappedRam(vm, files.foreign);
    await vm[Symbol.asyncDispose]();
    for (const [from, to] of [
      ['sound', 'page'],
      ['sound', 'device'],
      ['signed', 'signedPage'],
    ] as const)
      copyFileSync(files[from], files[to]);
    await flipInPage(files.page);
    await flipInPage(files.signedPage);
    await flipInDevices(files.device);
  });

  function flip(file: string, offset: number): void {
    const fd = openSync(file, 'r+');
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, offset);
    writeSync(fd, Buffer.of((byte[0] as number) ^ 4), 0, 1, offset);
    closeSync(fd);
  }

  /** In the last page of main memory that holds anything: nothing that the guest needs at once. */
  async function flipInPage(file: string): Promise<void> {
    await using image = await MappedRamImage.open(file);
    const block = image.block('pc.ram');
    assert.ok(block, 'there is no block');
    const last = [...image.runs(block)].at(-1);
    assert.ok(last, 'there is no last');
    flip(file, block.pagesOffset + (last.first + last.count - 1) * block.pageSize + 77);
  }

  async function flipInDevices(file: string): Promise<void> {
    await using image = await MappedRamImage.open(file);
    flip(file, (image.tailOffset as number) + 100);
  }

  const newFolder = () => {
    const created = path.join(folder, `sockets-${++names}`);
    mkdirSync(created);
    return created;
  };
  const request = (file: string, more: Partial<ResumeOptions> = {}): ResumeOptions => ({
    file,
    command: commandIn(vm, newFolder()),
    ...more,
  });
  const refused = (pattern: RegExp) => (error: unknown) => {
    assert.ok(error instanceof MapramError, String(error));
    assert.equal(error.code, 'FORMAT', error.message);
    assert.match(error.message, pattern);
    return true;
  };
  async function statusAt(qmp: string): Promise<string> {
    const session = await QmpSession.open(qmp);
    const { status } = await session.execute<{ status: string }>('query-status');
    session.close();
    return status;
  }

  test('and is sound: the guest runs, and then it is known', async () => {
    const warnings: string[] = [];
    const sockets = newFolder();
    await using resumed = await resume({
      file: files.sound,
      command: commandIn(vm, sockets),
      verify: true,
      onWarning: (text) => warnings.push(text),
    });
    assert.equal(resumed.facts.runState, 'running');
    const found = await resumed.verified;
    assert.ok(found?.ok, JSON.stringify(found?.problems));
    assert.deepEqual(found.problems, []);
    assert.ok(found.checkedBytes > 32 << 20, `${found.checkedBytes} bytes`);
    assert.deepEqual(warnings, []);
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove();
    console.close();
  });

  test('and is damaged in memory: the guest is stopped, and where is told', async () => {
    const warnings: string[] = [];
    await using resumed = await resume(
      request(files.page, { verify: true, onWarning: (text) => warnings.push(text) }),
    );
    const found = await resumed.verified;
    assert.equal(found?.ok, false);
    const [problem, ...others] = found.problems;
    assert.equal(others.length, 0);
    assert.equal(problem?.kind, 'contents');
    assert.equal(problem.where, 'pc.ram');
    const { guestAddress = 0, length = 0 } = problem;
    assert.ok(guestAddress + length > 16 << 20, `${length} bytes from ${guestAddress}`);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /is damaged, and VMs run from it: pc\.ram: .*guests were stopped/);
    assert.equal(await statusAt(resumed.facts.qmp), 'paused');
  });

  test('and whose guest is to run on all the same, does', async () => {
    await using resumed = await resume(request(files.page, { verify: true, onDamage: 'continue' }));
    assert.equal((await resumed.verified)?.ok, false);
    assert.equal(await statusAt(resumed.facts.qmp), 'running');
  });

  test('and is damaged in its device state: it is never loaded, asked or not', async () => {
    await assert.rejects(
      resume(request(files.device)),
      refused(/device state or the manifest itself have changed/),
    );
    await assert.rejects(planResume(request(files.device)), refused(/have changed since the save/));
    await assert.rejects(
      fork({ ...request(files.device), count: 2 }),
      refused(/have changed since the save/),
    );
    assert.deepEqual(processesWith(files.device), []);
  });

  test('and has no checksums, since QEMU wrote it: that is said', async () => {
    const warnings: string[] = [];
    await using resumed = await resume(
      request(files.foreign, { verify: true, onWarning: (text) => warnings.push(text) }),
    );
    assert.ok((await resumed.verified)?.ok, 'the memory was found damaged');
    assert.match(warnings.join('\n'), /no manifest .*no checksums to check its memory by/);
  });

  test('and must be signed: all of it is checked before a QEMU is started', async () => {
    {
      await using resumed = await resume(request(files.signed, { requireSignature: publicKey }));
      const found = await resumed.verified;
      assert.equal(found?.signature, 'trusted');
      assert.ok(found.checkedBytes > 32 << 20, `checked bytes: ${found.checkedBytes}`);
    }
    const required = { requireSignature: publicKey };
    await assert.rejects(
      resume(request(files.signedPage, required)),
      refused(/pc\.ram: its memory from .* differs/),
    );
    await assert.rejects(
      planResume(request(files.signedPage, required)),
      refused(/differs from what was saved/),
    );
    await assert.rejects(resume(request(files.sound, required)), refused(/the file is not signed/));
    await assert.rejects(fork({ ...request(files.sound, required), count: 2 }), refused(/is not signed/));
    assert.deepEqual(processesWith(files.signedPage), []);
  });

  test('and is left by its VM before the check is through: there is no verdict', async () => {
    const resumed = await resume(request(files.sound, { verify: true }));
    const verdict = resumed.verified;
    await resumed.end();
    const outcome = await verdict.then(
      (found) => found?.ok,
      (error: unknown) => (error as MapramError).code,
    );
    assert.ok(outcome === true || outcome === 'CANCELLED', String(outcome));
  });

  test('and is forked: all clones are stopped', async () => {
    await using clones = await fork({ ...request(files.page), count: 2, verify: true });
    assert.equal((await clones.verified)?.ok, false);
    for (const { facts } of clones.vms) assert.equal(await statusAt(facts.qmp), 'paused');
  });

  test('and is resumed by the command line: a warning, the result, exit code 1', async () => {
    const sockets = newFolder();
    const command = commandIn(vm, sockets);
    const run = await runCli(['resume', files.page, '--verify', '--detach', '--json', '--', ...command]);
    const [{ pid, qmp }] = run.result.vms as [{ pid: number; qmp: string }];
    try {
      assert.equal(run.code, 1);
      assert.match(run.stderr, /^mapram: warning: .* is damaged, and VMs run from it/m);
      assert.match(run.stderr, /^mapram: verifying .*: .* differs from what was saved$/m);
      const { ok, problems } = run.result.verification as { ok: boolean; problems: unknown[] };
      assert.equal(ok, false);
      assert.equal(problems.length, 1);
      assert.ok(
        run.lines.some(({ warning }) => warning === 'resume'),
        'no warning was written',
      );
      assert.equal(await statusAt(qmp), 'paused', 'it is detached, and stopped');
    } finally {
      process.kill(pid, 'SIGKILL');
    }
    const ended = await runCli([
      'resume',
      files.page,
      ...['--verify', '--on-damage', 'quit', '--json', '--'],
      ...commandIn(vm, newFolder()),
    ]);
    assert.equal(ended.code, 1, 'it ends by itself');
    assert.equal((ended.result.verification as { ok: boolean }).ok, false);
    let interrupted = false;
    const foreground = await runCli(
      ['resume', files.sound, '--verify', '--json', '--', ...commandIn(vm, newFolder())],
      {
        onStdout(child, stdout) {
          if (interrupted || !stdout.includes('{"ready":"resume"')) return;
          interrupted = true;
          child.kill('SIGINT');
        },
      },
    );
    assert.equal(foreground.code, 130);
    assert.deepEqual(processesWith(files.sound), []);
  });
});
