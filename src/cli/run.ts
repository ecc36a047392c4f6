import { type ExitCode, runProgram } from './program.js';
import { commandsFor } from './registry.js';

/**
 * Runs one command line; all output is written when it is through.
 *
 * @param argv what follows `mapram`
 */
export async function run(argv: readonly string[]): Promise<ExitCode> {
  return runProgram(await commandsFor(argv), argv);
}
