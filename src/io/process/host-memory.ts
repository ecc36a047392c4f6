import { readFileSync } from 'node:fs';

/** Memory and swap of this host in bytes; undefined where the kernel does not tell. */
export function hostMemory(): number | undefined {
  try {
    const text = readFileSync('/proc/meminfo', 'latin1');
    const kib = (name: string) =>
      Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN);
    const bytes = (kib('MemTotal') + kib('SwapTotal')) * 1024;
    return Number.isFinite(bytes) ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the kernel lets a process map more memory than there is (`vm.overcommit_memory` is not 2). */
export function mayOvercommit(): boolean {
  try {
    return readFileSync('/proc/sys/vm/overcommit_memory', 'latin1').trim() !== '2';
  } catch {
    return false;
  }
}
