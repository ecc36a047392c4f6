import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { readKibFields } from './proc-fields.js';

/** Memory and swap of this host in bytes; undefined where the kernel does not tell. */
export function hostMemory(): number | undefined {
  try {
    const bytes = readKibFields('/proc/meminfo');
    const [memory, swap] = [bytes('MemTotal'), bytes('SwapTotal')];
    return memory === undefined || swap === undefined ? undefined : memory + swap;
  } catch {
    return undefined;
  }
}

/** Bytes that can be had without swapping. */
export function availableMemory(): number {
  try {
    return readKibFields('/proc/meminfo')('MemAvailable') ?? freemem();
  } catch {
    // Not Linux.
    return freemem();
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
