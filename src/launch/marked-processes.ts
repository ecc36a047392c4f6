/** Processes that were started with a mark in their environment, which their children inherit. */
import { readdirSync, readFileSync } from 'node:fs';

/** The variable that holds the mark. */
export const MARK = 'MAPRAM_VM';

export interface MarkedProcess {
  pid: number;
  mark: string;
}

/** All that this user may look into and whose mark begins so. */
export function markedProcesses(prefix: string): MarkedProcess[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid)) return [];
    const mark = markOf(pid);
    return mark?.startsWith(prefix) ? [{ pid, mark }] : [];
  });
}

function markOf(pid: number): string | undefined {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return variables.find((variable) => variable.startsWith(`${MARK}=`))?.slice(MARK.length + 1);
  } catch {
    // It has ended, or is another user's.
    return undefined;
  }
}
