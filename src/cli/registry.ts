import type { CommandDescription } from './command.js';

/** Every command, in the order of `mapram --help`. */
export const COMMANDS: readonly CommandDescription[] = [];
