import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { errorReason, MapramError } from '../errors.js';
import { Cancellation } from './cancellation.js';
import type { CommandDescription } from './command.js';
import { type Failure, Output, oneLine } from './output.js';

/** The process exit codes of every command. */
export const EXIT = { good: 0, failed: 1, usage: 2 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/**
 * Runs one command line.
 *
 * @param argv what follows `mapram`
 * @returns the exit code; all output is written
 */
export async function runProgram(
  commands: readonly CommandDescription[],
  argv: readonly string[],
): Promise<ExitCode> {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', ignoreMissingReader);
  let exitCode: ExitCode = EXIT.good;
  const program = new Command('mapram')
    .description(
      'Save, load, resume, fork and inspect QEMU virtual machines: mapped-ram files with direct I/O.',
    )
    .version(packageVersion(), '-V, --version')
    .helpCommand('help [command]', 'show what a command does')
    .exitOverride()
    // Usage errors are worded below, once, in the same form as every other failure.
    .configureOutput({ outputError: () => {} });
  for (const description of commands) {
    const command = program.command(description.name).summary(description.summary);
    command.description(`${description.summary[0]?.toUpperCase()}${description.summary.slice(1)}.`);
    description.declare(command);
    command.option('--json', 'machine-readable: progress and result as JSON lines on stdout');
    command.action(async () => {
      exitCode = await runCommand(description, command.processedArgs, command.opts());
    });
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    exitCode = error.exitCode === 0 ? EXIT.good : usageFailure(commands, argv, error);
  }
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  return exitCode;
}

/** Waits until a pipe has taken what was written: the process ends right after this. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}

/** `mapram … | head`: the reader is gone, so there is nobody to tell. The command itself still ends properly. */
function ignoreMissingReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

async function runCommand(
  description: CommandDescription,
  args: readonly unknown[],
  options: Record<string, unknown>,
): Promise<ExitCode> {
  const json = options.json === true;
  const output = new Output(description.name, { json });
  using cancellation = new Cancellation(description.name);
  try {
    const result = await description.run(args, options, {
      signal: cancellation.signal,
      json,
      progress: (event) => output.progress(event),
      warn: (message) => output.warn(message),
      print: (line) => output.print(line),
      ready: (fields, line) => output.ready(fields, line),
    });
    output.result(result.fields, result.text);
    if (result.failed === undefined) return EXIT.good;
    output.verdict(oneLine(result.failed));
    return EXIT.failed;
  } catch (error) {
    // Whatever broke off because of ^C is a cancellation, however the broken operation words it.
    const cause = cancellation.signal.aborted ? cancellation.signal.reason : error;
    const failure = describeFailure(description.name, cause);
    output.failure(failure);
    if (process.env.MAPRAM_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return failure.code === 'USAGE' ? EXIT.usage : EXIT.failed;
  }
}

function describeFailure(command: string, error: unknown): Failure {
  if (error instanceof MapramError) {
    return {
      code: error.code,
      message: oneLine(error.message),
      ...(error.path === undefined ? {} : { path: error.path }),
      ...(error.offset === undefined ? {} : { offset: error.offset }),
    };
  }
  return {
    code: 'INTERNAL',
    message: `${command}: unexpected failure: ${oneLine(errorReason(error))} (MAPRAM_DEBUG=1 shows where)`,
  };
}

/** Rewords commander's `error: …` as one `mapram: …` line that says where the right usage is. */
function usageFailure(
  commands: readonly CommandDescription[],
  argv: readonly string[],
  error: CommanderError,
): ExitCode {
  const name = commands.find((command) => command.name === argv[0])?.name;
  // Without any command commander has shown the help already.
  if (error.code === 'commander.help') return EXIT.usage;
  const what = oneLine(error.message)
    .replace(/^error: /, '')
    .replace(/\.$/, '');
  const subject = name === undefined ? '' : ` ${name}`;
  const message = `${name === undefined ? '' : `${name}: `}${what}; see mapram${subject} --help`;
  const dashes = argv.indexOf('--');
  const json = (dashes < 0 ? argv : argv.slice(0, dashes)).includes('--json');
  new Output(name ?? 'mapram', { json }).failure({ code: 'USAGE', message });
  return EXIT.usage;
}

function packageVersion(): string {
  return (createRequire(import.meta.url)('mapram/package.json') as { version: string }).version;
}
