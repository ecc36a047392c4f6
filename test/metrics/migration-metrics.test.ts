import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { formatMetrics } from '../../src/metrics/exposition.js';
import { MetricsServer } from '../../src/metrics/metrics-server.js';
import { MigrationMetrics } from '../../src/metrics/migration-metrics.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('metrics');

test('names, help and labels are escaped as the format asks', () => {
  const text = formatMetrics([
    {
      name: 'a',
      type: 'gauge',
      help: 'two\nlines',
      samples: [{ value: 0.5, labels: { path: 'a"b\\c\nd' } }],
    },
    { name: 'b', type: 'counter', help: 'none yet', samples: [] },
  ]);
  assert.equal(text, '# HELP a two\\nlines\n# TYPE a gauge\na{path="a\\"b\\\\c\\nd"} 0.5\n');
});

test('a save through a monitor is seen by who collects the metrics', async () => {
  const profile = qemuProfile('10.0');
  const guest = await BuiltinGuest.start({ size: 16 << 20 });
  await using monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  using metrics = new MigrationMetrics(monitor);
  await using server = await MetricsServer.open('127.0.0.1', 0, () => metrics.collect());
  const collect = async () => {
    const response = await fetch(server.url);
    assert.equal(response.status, 200);
    const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]),
    );
  };

  const before = await collect();
  assert.equal(before.get('mapram_migrations_total{result="completed"}'), 0);
  assert.equal(before.get('mapram_migration_status{status="none"}'), 1);

  const ended = new Promise<void>((resolve) => {
    monitor.backend.subscribe(({ event, data }) => {
      if (event === 'MIGRATION' && data?.status === 'completed') resolve();
    });
  });
  await monitor.execute('migrate-set-capabilities', {
    capabilities: ['mapped-ram', 'multifd', 'events'].map((capability) => ({ capability, state: true })),
  });
  await monitor.execute('migrate-set-parameters', { 'direct-io': true });
  await monitor.execute('migrate', { uri: `file:${path.join(root, 'vm.mapram')}` });
  await ended;

  const afterwards = await collect();
  assert.equal(afterwards.get('mapram_migrations_total{result="completed"}'), 1);
  assert.equal(afterwards.get('mapram_migration_direct_io'), 1);
  assert.equal(afterwards.get('mapram_migration_running'), 0);
  const { ram } = await monitor.backend.queryMigrate();
  assert.equal(afterwards.get('mapram_migration_bytes_total'), ram?.transferred);
  assert.equal(afterwards.get('mapram_migration_pages_total{kind="normal"}'), ram?.normal);
  assert.ok(Number(ram?.normal) > 0, `normal: ${ram?.normal}`);
});

test('only metrics are served, and only to be read', async () => {
  await using server = await MetricsServer.open('127.0.0.1', 0, async () => []);
  assert.equal((await fetch(new URL('/', server.url))).status, 404);
  assert.equal((await fetch(server.url, { method: 'POST' })).status, 405);
  await assert.rejects(
    MetricsServer.open('127.0.0.1', Number(new URL(server.url).port), async () => []),
    /serving metrics on .*address already in use/,
  );
});
