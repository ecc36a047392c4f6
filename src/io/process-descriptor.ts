import { constants, readFileSync } from 'node:fs';
import { openFile } from './open-file.js';

const KEPT_FLAGS = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR | (constants.O_DIRECT ?? 0);

/**
 * Opens anew what another process has open, with the same access mode and O_DIRECT bit. Linux only.
 *
 * @throws the system error of open(2); `EACCES` for a process of another user
 */
export function reopenDescriptorOf(pid: number, fd: number): number {
  const [, flags = '0'] =
    /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')) ?? [];
  return openFile(`/proc/${pid}/fd/${fd}`, Number.parseInt(flags, 8) & KEPT_FLAGS);
}
