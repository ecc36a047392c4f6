/** Whether the QEMU on the PATH has the machine type of a saved VM. */
import { isAtLeast, NEWEST_PROFILE, type QemuRelease, qemuProfile } from '../options/qemu-profile.js';
import { machineSupport } from './machine-type.js';
import { outputOf, programFile } from './qemu-output.js';

/** What `-machine help` of a QEMU lists. */
export interface MachineHere {
  /** Full path of the program. */
  readonly program: string;
  readonly state: 'there' | 'deprecated' | 'missing';
}

/** Families with one QEMU; of `virt` there are several. */
const ARCHITECTURES: readonly (readonly [name: RegExp, architecture: string])[] = [
  [/^pc-/, 'x86_64'],
  [/^pseries-/, 'ppc64'],
  [/^s390-ccw-virtio-/, 's390x'],
];

/**
 * Asks the QEMU on the PATH, never a program that the saved VM names. Undefined for machine types that every known QEMU has, so that most
 * files need no process, for those of several architectures, and where there is no QEMU.
 */
export async function machineHere(machine: string): Promise<MachineHere | undefined> {
  const architecture = ARCHITECTURES.find(([name]) => name.test(machine))?.[1];
  if (architecture === undefined || !isInDoubt(machine)) return undefined;
  const program = programFile(`qemu-system-${architecture}`, '.')?.path;
  if (program === undefined) return undefined;
  const [title, ...lines] = ((await outputOf(program, ['-machine', 'help'])) ?? '').split('\n');
  if (title !== 'Supported machines are:') return undefined;
  const line = lines.find((candidate) => candidate.split(' ', 1)[0] === machine);
  if (line === undefined) return { program, state: 'missing' };
  return { program, state: line.endsWith('(deprecated)') ? 'deprecated' : 'there' };
}

/** Whether some QEMU up to the newest known one calls it deprecated or lacks it. A QEMU is older than types that came later. */
function isInDoubt(machine: string): boolean {
  const deprecated = machineSupport(machine)?.deprecated;
  return deprecated !== undefined && isAtLeast(qemuProfile(NEWEST_PROFILE).release, releaseIn(deprecated));
}

function releaseIn(text: string): QemuRelease {
  const [major = 0, minor = 0] = text.split('.').map(Number);
  return [major, minor];
}
