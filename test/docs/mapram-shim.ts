/**
 * `mapram` for the shell blocks of the documents: every command line must be one that the real program takes, and those
 * that need no VM and no file outside the working directory are carried out.
 */
import { createProgram, runProgram } from '../../src/cli/program.js';
import { allCommands } from '../../src/cli/registry.js';

const args = process.argv.slice(2);
/** They start QEMUs or serve until they are stopped. */
const LASTING = ['resume', 'fork', 'ui'];

const elsewhere = (word: string) => /^(?:unix:|tcp:)?\/|^tcp:|…/.test(word);

await createProgram(await allCommands()).parseAsync(args, { from: 'user' });
const carriedOut = !LASTING.includes(args[0] ?? '') && !args.some(elsewhere);
process.exit(carriedOut ? await runProgram(await allCommands(), args) : 0);
