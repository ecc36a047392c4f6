/** Options for the checks of `restore`, `resume` and `fork`, most of which switch one off; in the library they have the same names. */
import type { Command } from 'commander';
import { Option } from 'commander';
import { defined } from '../defined.js';
import type { Confinement } from '../launch/confinement.js';
import { MEMORY_CHECKS, type MemoryCheck } from '../snapshot/checks/memory-after-load.js';
import type { LaunchAllowances } from '../snapshot/resume/launch-options.js';
import type { Options } from './command.js';

export const CPU_OPTION = [
  '--allow-cpu-mismatch',
  'continue although the CPU lacks features that the saved one had',
] as const;

export const DISKS_OPTION = '--allow-changed-disks';

/** How much of the memory `restore`, `resume` and `fork` compare with the file before the guest runs. */
export function memoryCheckOption(): Option {
  return new Option('--check-memory <how>', 'compare the loaded memory with the file before the guest runs')
    .choices(MEMORY_CHECKS)
    .default('sample');
}

export function declareAllowances(command: Command): void {
  const name = command.name();
  command
    .option('--trust', `${name} although somebody else could have written the recorded command line`)
    .option(DISKS_OPTION, `${name} although disks have changed since the VM was saved`)
    .option(...CPU_OPTION)
    .addOption(memoryCheckOption())
    .option('--sandbox', 'let QEMU use only the system calls of a running VM, and start no other program')
    .option(
      '--user <user>',
      'let QEMU become this user, NAME or UID:GID, before the guest runs (as root only)',
    )
    .option('--cgroup <dir>', 'put QEMU into this cgroup, a directory below /sys/fs/cgroup')
    .addOption(new Option('--force').hideHelp())
    .on('option:force', () =>
      command.error(
        '--force replaces files, and this command replaces none; use --allow-changed-disks for disks that have changed, --trust for a command line that somebody else could have written',
      ),
    );
}

/** What these options are to the library. */
export function allowancesOf({
  trust,
  allowChangedDisks,
  allowCpuMismatch,
  checkMemory,
  sandbox,
  user,
  cgroup,
}: Options): LaunchAllowances & Confinement & { checkMemory: MemoryCheck } {
  return {
    sandbox: sandbox === true,
    ...defined({ user, cgroup }),
    checkMemory,
    trust: trust === true,
    allowChangedDisks: allowChangedDisks === true,
    allowCpuMismatch: allowCpuMismatch === true,
  };
}
