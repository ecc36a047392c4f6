/** Options that each switch off one check of `resume` and `fork`; in the library they have the same names. */
import type { Command } from 'commander';
import { Option } from 'commander';
import type { LaunchAllowances } from '../snapshot/launch-plan.js';
import type { Options } from './command.js';

export function declareAllowances(command: Command): void {
  const name = command.name();
  command
    .option('--trust', `${name} although somebody else could have written the recorded command line`)
    .option('--allow-changed-disks', `${name} although disks have changed since the VM was saved`)
    .addOption(new Option('--force').hideHelp())
    .on('option:force', () =>
      command.error(
        '--force replaces files, and this command replaces none; use --allow-changed-disks for disks that have changed, --trust for a command line that somebody else could have written',
      ),
    );
}

/** What these options are to the library. */
export function allowancesOf({ trust, allowChangedDisks }: Options): LaunchAllowances {
  return { trust: trust === true, allowChangedDisks: allowChangedDisks === true };
}
