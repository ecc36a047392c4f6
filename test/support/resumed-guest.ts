/** What tests do with VMs that the code under test has started from a file. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { TestVm } from './qemu.js';
import { QmpSession } from './qmp-session.js';
import { SerialConsole } from './serial-console.js';

/** The command line of a test VM, with its sockets in another folder. */
export function commandIn(vm: TestVm, folder: string): string[] {
  return vm.commandLine.map((word) => word.replaceAll(vm.folder, folder));
}

/** The serial port of a VM whose sockets are in `folder`. */
export async function consoleIn(folder: string): Promise<SerialConsole> {
  return await SerialConsole.open(path.join(folder, 'serial.sock'));
}

/** QEMU's own dump of guest-physical memory, over a QMP socket that nobody else uses. */
export async function dumpMemory(qmp: string, file: string, length: number): Promise<Buffer> {
  const session = await QmpSession.open(qmp);
  try {
    await session.execute('pmemsave', { val: 0, size: length, filename: file });
    return readFileSync(file);
  } finally {
    session.close();
  }
}

/** Processes with `text` in their command line. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}
