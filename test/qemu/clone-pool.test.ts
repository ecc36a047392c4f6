/** QEMUs kept ready: taking one costs only the device state, and what is taken or lost is replaced. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { poolMetrics } from '../../src/metrics/pool-metrics.js';
import { ClonePool } from '../../src/snapshot/resume/clone-pool.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { saveMappedRam } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';
import { consoleIn, killProcessesWith, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('ClonePool', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let file: string;
  let command: readonly string[];
  let counter: number;

  before(async () => {
    folder = temporaryFolder('pool');
    file = path.join(folder, 'vm.mapram');
    await using vm = await startVm();
    await saveMappedRam(vm, file);
    command = vm.commandLine;
    counter = vm.console.counter;
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  const quiet = { onWarning: () => {} };

  test('gives no more VMs than may be taken, lets so many wait, and ends those whose time is over', async () => {
    await using pool = await ClonePool.open({
      ...{ file, command, size: 1, ...quiet },
      ...{ maxTaken: 2, maxQueued: 1, maxStarting: 1, maxLifetimeMs: 3_600_000 },
    });
    const first = await pool.take();
    const second = await pool.take();
    const third = pool.take();
    await assert.rejects(
      pool.take(),
      (error) => error instanceof MapramError && error.code === 'BUSY' && /1 others wait/.test(error.message),
    );
    assert.deepEqual([pool.health.running, pool.health.queued], [2, 1]);
    await first.close();
    const next = await third;
    assert.deepEqual([pool.health.running, pool.health.queued, pool.health.taken], [2, 0, 3]);
    await Promise.all([second.close(), next.close()]);
    await pool.filled();
    const metrics = poolMetrics(pool, { pool: 'a "b"' });
    assert.match(metrics, /^mapram_pool_vms\{pool="a \\"b\\"",state="waiting"\} 1$/m);
    assert.match(metrics, /^mapram_pool_taken_total\{pool="a \\"b\\""\} 3$/m);
    assert.match(metrics, /^# TYPE mapram_pool_take_seconds_total counter$/m);
  });

  test('ends a taken VM after its lifetime, and replaces one that has waited for too long', async () => {
    await using pool = await ClonePool.open({
      ...{ file, command, size: 1, maxLifetimeMs: 50, maxWaitingMs: 2_000, ...quiet },
    });
    const vm = await pool.take();
    await vm.exited;
    while (existsSync(vm.directory)) await delay(5);
    while (pool.health.expired < 2) await once(pool, 'ready');
    assert.equal(pool.health.lost, 0);
  });

  test('hands out running VMs and starts others in their place', async () => {
    const pool = await ClonePool.open({ file, command, size: 2, ...quiet });
    try {
      await pool.filled();
      assert.equal(pool.health.waiting, 2);
      // More than wait: the third is started on demand.
      const taken = await Promise.all([pool.take(), pool.take(), pool.take()]);
      for (const vm of taken) {
        const console = await consoleIn(vm.directory);
        await console.waitForCounterAbove(counter);
        console.close();
      }
      assert.equal(new Set(taken.map(({ pid }) => pid)).size, 3);
      await pool.filled();
      assert.equal(pool.health.waiting, 2);
      assert.equal(pool.health.taken, 3);
      await pool[Symbol.asyncDispose]();
      assert.deepEqual(processesWith(file).sort(), taken.map(({ pid }) => pid).sort());
      const [first, ...others] = taken.map(({ directory }) => directory);
      assert.ok(existsSync(first as string), `${first} is missing`);
      await taken[0]?.close();
      assert.equal(existsSync(first as string), false, 'the folder goes with the VM (B2)');
      assert.ok(
        others.every((directory) => existsSync(directory)),
        'a folder of another clone is missing',
      );
      await Promise.all(taken.map((vm) => vm.end()));
      assert.equal(existsSync(pool.directory), false, 'the folder of all goes with the last one (B2)');
      await assert.rejects(pool.take(), failsWith('CANCELLED'));
    } finally {
      await pool.close();
    }
    assert.deepEqual(processesWith(file), []);
  });

  test('replaces a QEMU that ends while it waits', async () => {
    await using pool = await ClonePool.open({ file, command, size: 1, ...quiet });
    await pool.filled();
    const [victim] = processesWith(file);
    const lost = once(pool, 'lost');
    process.kill(victim as number, 'SIGKILL');
    const [error] = (await lost) as [MapramError];
    assert.match(error.message, /ended while it waited/);
    const vm = await pool.take();
    assert.notEqual(vm.pid, victim);
    await vm.end();
  });

  test('gives up with the words of QEMU when none can be started', async () => {
    const pool = await ClonePool.open({
      file,
      command: [...command, '-device', 'no-such-device'],
      size: 2,
      ...quiet,
    });
    await assert.rejects(
      pool.take(),
      (error) => error instanceof MapramError && /no-such-device/.test(error.message),
    );
    assert.equal(pool.health.waiting, 0);
    await pool[Symbol.asyncDispose]();
    assert.deepEqual(processesWith(file), []);
  });
});
