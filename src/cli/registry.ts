import type { CommandDescription } from './command.js';
import { doctor } from './commands/doctor.js';

/** Every command, in the order of `mapram --help`. */
export const COMMANDS: readonly CommandDescription[] = [doctor];
