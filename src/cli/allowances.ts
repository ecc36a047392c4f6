/** Options that each switch off one check of `resume` and `fork`; in the library they have the same names. */
import type { Command } from 'commander';
import { Option } from 'commander';
import type { LaunchAllowances } from '../snapshot/resume/launch-plan.js';
import type { Options } from './command.js';

export const CPU_OPTION = [
  '--allow-cpu-mismatch',
  'go on although the CPU lacks features that the saved one had',
] as const;

export function declareAllowances(command: Command): void {
  const name = command.name();
  command
    .option('--trust', `${name} although somebody else could have written the recorded command line`)
    .option('--allow-changed-disks', `${name} although disks have changed since the VM was saved`)
    .option(...CPU_OPTION)
    .addOption(new Option('--force').hideHelp())
    .on('option:force', () =>
      command.error(
        '--force replaces files, and this command replaces none; use --allow-changed-disks for disks that have changed, --trust for a command line that somebody else could have written',
      ),
    );
}

/** What these options are to the library. */
export function allowancesOf({ trust, allowChangedDisks, allowCpuMismatch }: Options): LaunchAllowances {
  return {
    trust: trust === true,
    allowChangedDisks: allowChangedDisks === true,
    allowCpuMismatch: allowCpuMismatch === true,
  };
}
