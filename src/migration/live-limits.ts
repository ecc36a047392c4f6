/** Bounds for a guest that runs on while QEMU sends its RAM. */
import { defined } from '../defined.js';
import { MapramError } from '../errors.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import type { MigrationParameters } from '../options/migration-parameters.js';

export interface LiveLimits {
  /** How long the guest may stand still at the end, in ms; QEMU's own setting by default (300 unless changed). */
  downtimeLimitMs?: number | undefined;
  /** Slow the guest down step by step while it changes memory faster than it is saved. */
  autoConverge?: boolean | undefined;
  /** How long the guest may run on, in ms; without limit by default. */
  maxTimeMs?: number | undefined;
  /** What happens then: the guest is stopped and the rest is saved (the default), or the save fails. */
  onTimeout?: 'stop' | 'cancel' | undefined;
}

/** The capabilities that QEMU needs to be given for them. */
export function liveCapabilities({ autoConverge = false }: LiveLimits): string[] {
  return autoConverge ? ['auto-converge'] : [];
}

/** The parameters that QEMU needs to be given for them. */
export function liveParameters({ downtimeLimitMs }: LiveLimits): Partial<MigrationParameters> {
  return defined({ 'downtime-limit': downtimeLimitMs });
}

/**
 * Waits for `work`, a live migration that is under way, and acts when its time is over.
 *
 * @param stop stops the guest, so that the migration comes to an end
 * @throws MapramError `MIGRATION` when the time is over and the save is to fail then; whatever `work` throws
 */
export async function withinLimits<T>(
  vm: QemuVm,
  { maxTimeMs, onTimeout = 'stop' }: LiveLimits,
  work: Promise<T>,
  stop: () => Promise<void>,
): Promise<T> {
  if (maxTimeMs === undefined) return await work;
  let timer: NodeJS.Timeout | undefined;
  const late = Symbol('late');
  const limit = new Promise<typeof late>((resolve) => {
    timer = setTimeout(() => resolve(late), maxTimeMs);
  });
  try {
    const first = await Promise.race([work, limit]);
    if (first !== late) return first;
  } finally {
    clearTimeout(timer);
  }
  if (onTimeout === 'cancel') {
    throw new MapramError(
      'MIGRATION',
      `saving the VM at ${vm.address}: the guest changes its memory faster than it is saved, and the time limit of ${maxTimeMs / 1000} s is over; save again with --on-timeout stop, --auto-converge, a longer --max-time or a longer --downtime-limit`,
      { path: vm.address },
    );
  }
  if ((await vm.runState()) === 'running') await stop();
  return await work;
}
