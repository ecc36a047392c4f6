/** How old a process is, who started it, and how much memory is its own. */
import { readFileSync } from 'node:fs';

/** Clock ticks a second in /proc/PID/stat: USER_HZ, 100 on every architecture of Linux. */
const TICKS_PER_SECOND = 100;
/** Fields of /proc/PID/stat after the name of the program, which may hold blanks and parentheses: `man 5 proc_pid_stat`. */
const PARENT_FIELD = 4;
const START_FIELD = 22;
const FIRST_FIELD_AFTER_NAME = 3;

export interface ProcessAge {
  /** The process that started it. */
  parent: number;
  ageMs: number;
}

/** Undefined when the process has ended. */
export function processAge(pid: number): ProcessAge | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const field = (number: number) => Number(fields[number - FIRST_FIELD_AFTER_NAME]);
    const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
    const ageMs = Math.max(0, Math.round((uptime - field(START_FIELD) / TICKS_PER_SECOND) * 1000));
    return { parent: field(PARENT_FIELD), ageMs };
  } catch {
    return undefined;
  }
}

/**
 * Memory that would be free if the process ended, in bytes: pages that no other process has mapped and that are not those of a file on
 * a disk, in RAM or swapped out. Of /proc/PID/smaps_rollup, since Linux 4.14.
 *
 * @returns undefined when the process has ended or belongs to another user
 */
export function privateBytes(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0);
    return (kib('Private_Dirty') + kib('Swap')) * 1024;
  } catch {
    return undefined;
  }
}
