/** VMs that run while their memory is fetched from a store: real QEMUs, a guest that checks itself, servers that die, stores that vanish. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { layoutOfLazyFile, readStatus } from '../../src/snapshot/lazy/lazy-layout.js';
import { mountSnapshot } from '../../src/snapshot/lazy/mount-snapshot.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { initStore } from '../../src/snapshot/store/manage-store.js';
import { pullSnapshot } from '../../src/snapshot/store/pull-snapshot.js';
import { saveToStore } from '../../src/snapshot/store/save-to-store.js';
import { TemporaryStore } from '../store/temporary-store.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs } from '../support/environment.js';
import { needsFuse } from '../support/fuse.js';
import { commandIn, consoleIn, killProcessesWith, processesWith } from '../support/resumed-guest.js';

const files = new TemporaryStore();
const run = promisify(execFile);
const earlier = process.env.XDG_CACHE_HOME;
const to = `${files.place}/vm`;
let saved: { counter: number; bootChecksum: string | undefined; commandIn: (folder: string) => string[] };
let hosts = 0;

/** As on a host that has never seen the snapshot. */
function emptyHost(): string {
  hosts += 1;
  process.env.XDG_CACHE_HOME = files.subfolder(`cache-${hosts}`);
  return files.subfolder(`host-${hosts}`);
}

/** The folder of the one snapshot in the cache. */
function cached(): string {
  const cache = files.path(`cache-${hosts}/mapram`);
  const [store = ''] = readdirSync(cache);
  const [lazy = ''] = readdirSync(path.join(cache, store)).filter((name) => name.endsWith('.lazy'));
  return path.join(cache, store, lazy.slice(0, -'.lazy'.length));
}

function server(): number {
  const layout = layoutOfLazyFile(path.join(`${cached()}.lazy`, 'mount', 'x'));
  const status = layout && readStatus(layout);
  assert.ok(status, 'the server has a status');
  return status.pid;
}

/** Guards of servers; the guard of another test may end a moment later. */
const guards = () => processesWith('mapram-lazy-guard').length;

/** While `work` runs the store is not where it was. */
async function withoutStore(work: () => Promise<void>): Promise<void> {
  renameSync(files.path('store'), files.path('elsewhere'));
  try {
    await work();
  } finally {
    renameSync(files.path('elsewhere'), files.path('store'));
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!holds()) {
    assert.ok(Date.now() < end, `still not so after a minute: ${what}`);
    await sleep(50);
  }
}

describe('a Linux guest whose memory is still in a store', {
  ...needs({ qemu: '10.0', guest: 'linux' }),
  ...needsFuse(),
}, () => {
  before(async () => {
    process.env.XDG_CACHE_HOME = files.subfolder('cache');
    await initStore({ place: files.place });
    await using vm = await startBootedVm({ memory: 'shared-file' });
    await saveToStore({ vm: vm.qmpPath, to, afterwards: 'quit', onWarning() {} });
    const { counter, bootChecksum } = vm.console;
    saved = { counter, bootChecksum, commandIn: (folder) => commandIn(vm, folder) };
  });
  after(async () => {
    killProcessesWith(files.folder);
    files[Symbol.dispose]();
    if (earlier === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = earlier;
  });

  test('runs at once, its memory is right, and what was fetched is a file that the next resume maps', async () => {
    const host = emptyHost();
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    {
      await using vm = await resume({ file: to, command: saved.commandIn(host), onWarning });
      assert.match(readFileSync(`/proc/${vm.pid}/maps`, 'utf8'), /\.lazy\/mount\/vm/);
      const console = await consoleIn(host);
      await console.waitForCounterAbove(saved.counter);
      assert.equal(await console.checksum(), saved.bootChecksum);
      await until('the snapshot is complete', () => existsSync(cached()));
      console.close();
    }
    const folder = cached();
    await until('the server has ended', () => !existsSync(`${folder}.lazy`));
    await until('its guard has ended', () => guards() === 0);
    const again = files.subfolder('again');
    await using vm = await resume({ file: to, command: saved.commandIn(again), onWarning });
    assert.doesNotMatch(readFileSync(`/proc/${vm.pid}/maps`, 'utf8'), /\.lazy/);
    const console = await consoleIn(again);
    await console.waitForCounterAbove(saved.counter);
    assert.equal(await console.checksum(), saved.bootChecksum);
    console.close();
    assert.deepEqual(
      warnings.filter((text) => /store|FUSE|fetch/.test(text)),
      [],
    );
  });

  test('does not notice that the server of its memory is killed, again and again', async () => {
    const host = emptyHost();
    await using _ = await resume({
      file: to,
      command: saved.commandIn(host),
      fetch: 'on-demand',
      onWarning() {},
    });
    const console = await consoleIn(host);
    const checksum = console.checksum();
    let pid = 0;
    for (let kills = 0; kills < 5; kills++) {
      await until('another server runs', () => server() !== pid);
      pid = server();
      await sleep(30 * kills);
      process.kill(pid, 'SIGKILL');
    }
    assert.equal(await checksum, saved.bootChecksum);
    await console.waitForCounterAbove(saved.counter);
    console.close();
  });

  test('waits while the store is out of reach, and is told so', async () => {
    const host = emptyHost();
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    await using _ = await resume({ file: to, command: saved.commandIn(host), fetch: 'on-demand', onWarning });
    const console = await consoleIn(host);
    let checksum: Promise<string> | undefined;
    await withoutStore(async () => {
      checksum = console.checksum();
      await until('a warning', () => warnings.some((text) => /VMs wait/.test(text)));
    });
    assert.equal(await checksum, saved.bootChecksum);
    await until('word that all is well', () => warnings.some((text) => /the VMs continue/.test(text)));
    console.close();
  });

  test('is ended, with the reason, when the store stays out of reach', async () => {
    const host = emptyHost();
    const warnings: string[] = [];
    const vm = await resume({
      file: to,
      command: saved.commandIn(host),
      fetch: 'on-demand',
      offlineTimeoutMs: 500,
      onWarning: (message) => warnings.push(message),
    });
    await using _ = vm;
    const console = await consoleIn(host);
    await withoutStore(async () => {
      console.checksum().catch(() => {});
      assert.equal((await vm.exited).signal, 'SIGKILL');
      await until('the reason', () => warnings.some((text) => /VMs were ended since/.test(text)));
    });
    console.close();
  });

  test('is forked from one server', async () => {
    await until('the servers of earlier tests have ended', () => guards() === 0);
    emptyHost();
    const directory = files.subfolder(`clones-${hosts}`);
    await using clones = await fork({
      file: to,
      count: 3,
      dir: directory,
      command: saved.commandIn(directory),
      onWarning() {},
    });
    assert.deepEqual(
      clones.vms.map(({ facts }) => facts.runState),
      ['running', 'running', 'running'],
    );
    assert.equal(guards(), 1);
  });

  test('is mounted, and read as a file', async () => {
    const directory = files.subfolder('mounted');
    await using mounted = await mountSnapshot({ snapshot: to, dir: directory });
    const [name = ''] = mounted.files;
    const pulled = files.path('pulled');
    await pullSnapshot({ from: to, file: pulled });
    await run('cmp', ['-n', '64M', path.join(directory, name), pulled]);
  });
});
