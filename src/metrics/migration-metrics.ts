import type { BackendEvent } from '../monitor/backend.js';
import type { Monitor } from '../monitor/monitor.js';
import { effectiveDirectIo } from '../options/direct-io.js';
import { isMigrationRunning } from '../options/migration-status.js';
import type { MigrationInfo } from '../qmp/qmp-commands.js';
import type { Metric } from './exposition.js';

const ENDS = ['completed', 'failed', 'cancelled'] as const;
type End = (typeof ENDS)[number];

/** Counts the migrations behind a monitor, from when it is made until it is disposed of. */
export class MigrationMetrics implements Disposable {
  readonly #monitor: Monitor;
  readonly #unsubscribe: () => void;
  readonly #ended: Record<End, number> = { completed: 0, failed: 0, cancelled: 0 };
  readonly #totals = { bytes: 0, normalPages: 0, zeroPages: 0, seconds: 0 };
  /** Resolves when the last migration that ended has been counted. */
  #counting: Promise<void> = Promise.resolve();

  constructor(monitor: Monitor) {
    this.#monitor = monitor;
    this.#unsubscribe = monitor.backend.subscribe((event) => this.#onEvent(event));
  }

  /** What there is to tell now. */
  async collect(): Promise<Metric[]> {
    await this.#counting;
    const { backend, options } = this.#monitor;
    const info = await backend.queryMigrate();
    const { status = 'none', ram } = info;
    const running = isMigrationRunning(status);
    const direct = effectiveDirectIo(options.parameters, options.capabilities);
    const one = (name: string, type: Metric['type'], help: string, value: number | undefined): Metric => ({
      name: `mapram_${name}`,
      type,
      help,
      samples: value === undefined ? [] : [{ value }],
    });
    const { bytes, normalPages, zeroPages, seconds } = this.#totals;
    return [
      {
        name: 'mapram_migrations_total',
        type: 'counter',
        help: 'Migrations that have ended, by how.',
        samples: ENDS.map((result) => ({ labels: { result }, value: this.#ended[result] })),
      },
      one('migration_bytes_total', 'counter', 'Bytes of pages moved by completed migrations.', bytes),
      {
        name: 'mapram_migration_pages_total',
        type: 'counter',
        help: 'Pages of completed migrations: moved, or zero and left out.',
        samples: [
          { labels: { kind: 'normal' }, value: normalPages },
          { labels: { kind: 'zero' }, value: zeroPages },
        ],
      },
      one('migration_seconds_total', 'counter', 'Time that completed migrations took.', seconds),
      one('migration_running', 'gauge', '1 while a migration runs.', Number(running)),
      {
        name: 'mapram_migration_status',
        type: 'gauge',
        help: 'The status of the last migration, as query-migrate gives it.',
        samples: [{ labels: { status }, value: 1 }],
      },
      one(
        'migration_direct_io',
        'gauge',
        '1 where pages bypass the page cache as options are now.',
        Number(direct),
      ),
      one('migration_ram_bytes', 'gauge', 'Memory of the VM in the last migration.', ram?.total),
      one(
        'migration_transferred_bytes',
        'gauge',
        'Bytes moved so far by the last migration.',
        ram?.transferred,
      ),
      one(
        'migration_remaining_bytes',
        'gauge',
        'Bytes that the last migration still has to move.',
        ram?.remaining,
      ),
      one(
        'migration_rate_bytes',
        'gauge',
        'Bytes a second of the last migration.',
        ram && (ram.mbps * 1e6) / 8,
      ),
      one(
        'migration_passes',
        'gauge',
        'Passes over memory in the last migration.',
        ram?.['dirty-sync-count'],
      ),
      one('migration_downtime_seconds', 'gauge', 'How long the VM was paused.', secondsOf(info.downtime)),
      one(
        'migration_duration_seconds',
        'gauge',
        'How long the last migration takes.',
        secondsOf(info['total-time']),
      ),
    ];
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
  }

  #onEvent({ event, data }: BackendEvent): void {
    const status = event === 'MIGRATION' ? (data?.status as string | undefined) : undefined;
    const end = ENDS.find((name) => name === status);
    if (end === undefined) return;
    this.#ended[end] += 1;
    if (end !== 'completed') return;
    const counted = this.#monitor.backend.queryMigrate().then((info) => this.#add(info));
    // A VM that ends right after its migration can no longer be asked.
    this.#counting = counted.catch(() => {});
  }

  #add({ ram, 'total-time': ms = 0 }: MigrationInfo): void {
    this.#totals.bytes += ram?.transferred ?? 0;
    this.#totals.normalPages += ram?.normal ?? 0;
    this.#totals.zeroPages += ram?.duplicate ?? 0;
    this.#totals.seconds += ms / 1000;
  }
}

function secondsOf(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
