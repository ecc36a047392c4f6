import type { ClonePool } from '../snapshot/resume/clone-pool.js';
import { formatMetrics, type Metric } from './exposition.js';

/**
 * The figures of a pool for Prometheus, as text for the service's own `/metrics`.
 *
 * @param labels added to each figure, for example the name of the pool
 */
export function poolMetrics(
  { health }: Pick<ClonePool, 'health'>,
  labels: Record<string, string> = {},
): string {
  const one = (name: string, type: Metric['type'], help: string, value: number): Metric => ({
    name: `mapram_pool_${name}`,
    type,
    help,
    samples: [{ labels, value }],
  });
  const states = { waiting: health.waiting, starting: health.starting, running: health.running };
  return formatMetrics([
    {
      name: 'mapram_pool_vms',
      type: 'gauge',
      help: 'VMs of the pool: waiting to be taken, being started, or taken and running.',
      samples: Object.entries(states).map(([state, value]) => ({ labels: { ...labels, state }, value })),
    },
    one('queued', 'gauge', 'Calls that wait for a VM.', health.queued),
    one('taken_total', 'counter', 'VMs that were taken.', health.taken),
    one(
      'take_seconds_total',
      'counter',
      'Time from the call until the VM was there.',
      health.takeTimeMs / 1000,
    ),
    one('expired_total', 'counter', 'VMs that were ended because their time was over.', health.expired),
    one('lost_total', 'counter', 'VMs that ended while they waited, or did not start.', health.lost),
  ]);
}
