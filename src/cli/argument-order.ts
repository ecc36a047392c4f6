/** Arguments that were given the wrong way round: the errors of what would happen then would not say so. */
import { type Stats, statSync } from 'node:fs';
import { MapramError } from '../errors.js';
import { quoteForShell } from '../launch/command-line.js';
import { isStoreAddress } from '../store/open-place.js';
import type { VmAddress } from './arguments.js';

/**
 * Refuses a VM and a file that were mixed up: a socket is no file to save to or load from, and a file or directory is no monitor.
 *
 * @param given both as they were typed, the VM first
 * @param right the command line with both in their places: `save VM FILE`
 * @throws MapramError `USAGE`
 */
export function assertVmAndFile(
  vm: VmAddress,
  file: string,
  right: 'save VM FILE' | 'restore FILE VM',
): void {
  const [command = ''] = right.split(' ');
  const vmKind = vm.kind === 'unix' ? kindOf(vm.path) : 'a monitor';
  const fileKind = isMonitorAddress(file) ? 'a monitor' : kindOf(file);
  const isSocket = fileKind === 'a socket' || fileKind === 'a monitor';
  if (vm.kind === 'unix' && isSocket) {
    const corrected = right.replace('VM', quoteForShell([file])).replace('FILE', quoteForShell([vm.path]));
    throw usage(
      command,
      file,
      `${file} is ${fileKind === 'a socket' ? 'a socket' : 'a VM'}, not a file; the order is "mapram ${corrected}"`,
    );
  }
  if (isSocket) throw usage(command, file, `${file} is a VM, not a file; the order is "mapram ${right}"`);
  if (vm.kind === 'unix' && (vmKind === 'a file' || vmKind === 'a directory')) {
    throw usage(
      command,
      vm.path,
      `${vm.path} is ${vmKind}, not the QMP socket of a QEMU; start QEMU with -qmp unix:SOCKET,server=on,wait=off and use "mapram ${right.replace('VM', 'SOCKET')}"`,
    );
  }
}

function isMonitorAddress(text: string): boolean {
  return /^(?:tcp:|unix:|builtin(?::|$))/.test(text);
}

function kindOf(path: string): 'a socket' | 'a directory' | 'a file' | undefined {
  let status: Stats | undefined;
  try {
    status = isStoreAddress(path) ? undefined : statSync(path, { throwIfNoEntry: false });
  } catch {
    // Whoever opens it says why it cannot be.
  }
  if (status?.isSocket()) return 'a socket';
  if (status?.isDirectory()) return 'a directory';
  return status?.isFile() ? 'a file' : undefined;
}

function usage(command: string, path: string, what: string): MapramError {
  return new MapramError('USAGE', `${command}: ${what}`, { path });
}
