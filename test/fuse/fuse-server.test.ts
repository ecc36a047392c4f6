import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { deferred } from '../../src/deferred.js';
import { type FuseDirectory, FuseServer } from '../../src/fuse/fuse-server.js';
import { mountFuse, unmountFuse } from '../../src/io/file/fuse-mount.js';
import { closeFile } from '../../src/io/file/open-file.js';
import { needsFuse } from '../support/fuse.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('fuse');
const timeMs = Date.UTC(2026, 10, 29, 12, 30, 15, 250);
const contents = randomBytes(3_000_001);
const run = promisify(execFile);
let mounts = 0;

function tree(read: (offset: number, length: number) => Promise<Uint8Array>): FuseDirectory {
  const disks = Array.from({ length: 300 }, (_, index) => ({
    name: `disk-${index}.qcow2`,
    bytes: 3,
    read: async () => Buffer.from('abc'),
  }));
  return {
    name: '',
    entries: [
      { name: 'vm.mapram', bytes: contents.length, read },
      { name: 'disks', entries: disks },
    ],
  };
}

async function mounted(
  read = async (offset: number, length: number): Promise<Uint8Array> =>
    contents.subarray(offset, offset + length),
) {
  mounts += 1;
  const directory = path.join(root, `mount-${mounts}`);
  mkdirSync(directory);
  const device = await mountFuse(directory, 'test, with a comma');
  const failures: unknown[] = [];
  const server = new FuseServer(device, tree(read), { timeMs, onFailure: (error) => failures.push(error) });
  const served = server.serve();
  return {
    directory,
    device,
    failures,
    server,
    served,
    file: path.join(directory, 'vm.mapram'),
    async [Symbol.asyncDispose]() {
      await unmountFuse(directory, 'detach');
      await served;
      closeFile(device);
    },
  };
}

test('files are listed with size and time, and read at any place', needsFuse(), async () => {
  await using fs = await mounted();
  assert.deepEqual((await readdir(fs.directory)).sort(), ['disks', 'vm.mapram']);
  assert.equal((await readdir(path.join(fs.directory, 'disks'))).length, 300);
  const { size, mtimeMs, mode } = await stat(fs.file);
  assert.deepEqual([size, mtimeMs, (mode & 0o777).toString(8)], [contents.length, timeMs, '400']);
  assert.ok((await readFile(fs.file)).equals(contents), 'the whole file');
  await using handle = await open(fs.file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(10_000), 0, 10_000, 2_999_000);
  assert.equal(bytesRead, 1001, 'the file ends there');
  assert.ok(buffer.subarray(0, 1001).equals(contents.subarray(2_999_000)), 'its last bytes');
});

test('nothing can be written, made or removed', needsFuse(), async () => {
  await using fs = await mounted();
  // Node waits for a child that changes its directory before it runs, and could not serve it.
  for (const command of ['touch new', 'rm vm.mapram', 'echo x > vm.mapram', 'mkdir d', 'mv vm.mapram x'])
    await assert.rejects(
      run('sh', ['-c', `cd ${fs.directory} && ${command}`]),
      /Read-only file system/,
      command,
    );
});

test('a read that fails is EIO, and others go on', needsFuse(), async () => {
  await using fs = await mounted(async (offset, length) => {
    if (offset >= 2 << 20) throw new Error('the store has gone');
    return contents.subarray(offset, offset + length);
  });
  await using handle = await open(fs.file);
  await assert.rejects(handle.read(Buffer.alloc(100), 0, 100, 2_500_000), { code: 'EIO' });
  assert.match(String(fs.failures[0]), /the store has gone/);
  const { buffer } = await handle.read(Buffer.alloc(100), 0, 100, 5000);
  assert.ok(buffer.equals(contents.subarray(5000, 5100)), 'another place is read');
});

test('a process that is killed while it waits for a page ends at once', needsFuse(), async () => {
  const waiting = deferred<Uint8Array>();
  await using fs = await mounted(() => waiting.promise);
  await assert.rejects(run('cat', [fs.file], { timeout: 300, killSignal: 'SIGKILL' }), { signal: 'SIGKILL' });
  waiting.resolve(contents);
});

test(
  'who waits for a page is served by another server after the first was killed',
  needsFuse(),
  async (t) => {
    const directory = path.join(root, 'two-servers');
    mkdirSync(directory);
    const device = await mountFuse(directory, 'test');
    const serve = (how: string) =>
      spawn(process.execPath, [path.join(import.meta.dirname, 'serve-bytes.js'), how], {
        stdio: ['ignore', 'pipe', 'inherit', device],
      });
    const first = serve('never');
    const firstLines = linesOf(first);
    assert.match((await firstLines.next()).value ?? '', /resent/);
    const reader = run('dd', [`if=${directory}/bytes`, 'bs=4096', 'skip=5', 'count=1', 'status=none']);
    assert.equal((await firstLines.next()).value, 'read');
    first.kill('SIGKILL');
    await once(first, 'exit');
    const second = serve('answers');
    const { value } = await linesOf(second).next();
    if (value === 'resent') assert.equal((await reader).stdout, '\u0005'.repeat(4096));
    await unmountFuse(directory, 'detach');
    closeFile(device);
    second.kill('SIGKILL');
    await reader.catch(() => {});
    if (value !== 'resent') t.skip('this kernel does not send requests again (Linux 6.9 does)');
  },
);

async function* linesOf({ stdout }: ChildProcess): AsyncGenerator<string> {
  yield* createInterface({ input: stdout as NodeJS.ReadableStream });
}

test('a file system is not unmounted as idle while a file of it is open', needsFuse(), async () => {
  await using fs = await mounted();
  const handle = await open(fs.file);
  assert.equal(await unmountFuse(fs.directory, 'idle'), false);
  await handle.close();
  // The kernel reports the close after it has returned.
  while (!(await unmountFuse(fs.directory, 'idle'))) await new Promise((resolve) => setTimeout(resolve, 10));
  await fs.served;
});
