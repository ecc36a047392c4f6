/** Which snapshots are kept: the newest few, and the newest of each hour, day, week, month and year, as far back as is asked for. */
import { timeOfId } from './format.js';
import type { SnapshotVersion } from './store.js';

export interface Retention {
  /** How many of each name: the newest, and the newest of so many hours, days, … that have one. */
  readonly keepLast?: number | undefined;
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
}

const PERIODS: Readonly<Record<Exclude<keyof Retention, 'keepLast'>, (time: Date) => string>> = {
  keepHourly: (time) => time.toISOString().slice(0, 13),
  keepDaily: (time) => time.toISOString().slice(0, 10),
  keepWeekly: (time) => String(weekOf(time)),
  keepMonthly: (time) => time.toISOString().slice(0, 7),
  keepYearly: (time) => time.toISOString().slice(0, 4),
};

const OPTIONS = ['keepLast', ...(Object.keys(PERIODS) as (keyof typeof PERIODS)[])] as const;

const DAY_MS = 86_400_000;
/** 1 January 1970 was a Thursday: weeks begin on Monday. */
const weekOf = (time: Date): number => Math.floor((time.getTime() / DAY_MS + 3) / 7);

/** Whether anything is said at all: nothing means that no snapshot is removed. */
export function isRetention(retention: Retention): boolean {
  return OPTIONS.some((option) => retention[option] !== undefined);
}

/** The snapshots that are to go, of all names. Times are in UTC. */
export function superseded(snapshots: readonly SnapshotVersion[], retention: Retention): SnapshotVersion[] {
  if (!isRetention(retention)) return [];
  const names = [...new Set(snapshots.map(({ name }) => name))];
  return names.flatMap((name) => {
    const versions = snapshots.filter((version) => version.name === name);
    const newestFirst = versions.toSorted((a, b) => (a.id < b.id ? 1 : -1));
    const kept = new Set(newestFirst.slice(0, retention.keepLast ?? 0));
    for (const [option, periodOf] of Object.entries(PERIODS)) {
      const seen = new Set<string>();
      for (const version of newestFirst) {
        const period = periodOf(new Date(timeOfId(version.id)));
        if (seen.has(period)) continue;
        if (seen.size >= (retention[option as keyof typeof PERIODS] ?? 0)) break;
        seen.add(period);
        kept.add(version);
      }
    }
    return newestFirst.filter((version) => !kept.has(version)).reverse();
  });
}
