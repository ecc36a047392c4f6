import { finished } from 'node:stream/promises';
import { Command, CommanderError, Option } from 'commander';
import { defined } from '../defined.js';
import { errorReason, isError, MapramError } from '../errors.js';
import { packageVersion } from '../package-version.js';
import { visible, visibleLine } from '../visible.js';
import { parseDuration } from './arguments.js';
import { Cancellation } from './cancellation.js';
import { type CommandDescription, jsonName, type Options } from './command.js';
import { createLog, LOG_FORMATS, LOG_LEVELS, type Log, scalarsOf } from './log.js';
import { barOnTerminal, Output, oneLine } from './output.js';
import type { Failure } from './results.js';

/** The process exit codes of every command; one that a signal has cancelled ends with 128 and the number of the signal. */
export const EXIT = { good: 0, failed: 1, usage: 2 } as const;
export type ExitCode = number;

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
  let unwritten: Error | undefined;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (!isMissingReader(error)) unwritten = error;
    });
  }
  let exitCode: ExitCode = EXIT.good;
  const program = createProgram(commands, async (description, command) => {
    exitCode = await runCommand(description, command);
  });
  try {
    await program.parseAsync(wordsOf(commands, argv), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    exitCode = error.exitCode === 0 ? EXIT.good : usageFailure(commands, argv, error);
  }
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  if (unwritten === undefined) return exitCode;
  // Not before: what the command does must not break off for it.
  process.stderr.write(`mapram: writing the output: ${visibleLine(errorReason(unwritten))}\n`);
  await flushed(process.stderr);
  return EXIT.failed;
}

/** `help` for what is no command is a wrong command, and `-v` a version. */
function wordsOf(commands: readonly CommandDescription[], argv: readonly string[]): readonly string[] {
  const [first, second] = argv;
  if (first === '-v') return ['--version'];
  if (first !== 'help' || second === undefined || second.startsWith('-') || second === 'help') return argv;
  const isKnown = commands.some(({ name }) => name === second || name.startsWith(`${second} `));
  return isKnown ? argv : [second];
}

/**
 * The command line as commander knows it: what help, completion and the manual page are made from.
 *
 * @param run called with the command that was asked for, once its arguments are parsed
 */
export function createProgram(
  commands: readonly CommandDescription[],
  run: (description: CommandDescription, command: Command) => Promise<void> = async () => {},
): Command {
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
    const command = declared(program, description.name).summary(description.summary);
    command.description(`${description.summary[0]?.toUpperCase()}${description.summary.slice(1)}.`);
    description.declare(command);
    command.option('--json', 'machine-readable: progress and result as JSON lines on stdout');
    if (!description.onlyAnswers) {
      command.option('-q, --quiet', 'say nothing but warnings and what went wrong');
    }
    if (!description.instant) {
      command.option(
        '--timeout <time>',
        'give up, and put everything back, after 60s, 5m or so',
        parseDuration,
      );
    }
    command
      .addOption(
        new Option('--log <format>', 'a structured log on stderr instead of single lines').choices(
          LOG_FORMATS,
        ),
      )
      .addOption(
        new Option('--log-level <level>', 'with --log: the least level to write')
          .choices(LOG_LEVELS)
          .default('info'),
      );
    command.action(() => run(description, command));
  }
  return program;
}

/** What groups of commands are about. */
const GROUPS: Readonly<Record<string, string>> = {
  store:
    'keep snapshots in a directory, S3 or a registry: compressed, encrypted, each at the cost of what changed',
};

/** The command of this name, below its group if it has one. */
function declared(program: Command, name: string): Command {
  const [first = '', second] = name.split(' ');
  if (second === undefined) return program.command(first);
  const summary = GROUPS[first] ?? first;
  const group =
    program.commands.find((command) => command.name() === first) ??
    program
      .command(first)
      .summary(summary)
      .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
      .helpCommand(false);
  return group.command(second);
}

/** Waits until a pipe has taken what was written: the process ends right after this. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  // A monitor on the terminal ends its output itself.
  if (stream.writableEnded) return stream.writableFinished ? Promise.resolve() : finished(stream);
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}

/** `mapram … | head`: the reader is gone, so there is nobody to tell. The command itself still ends properly. */
function isMissingReader(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EPIPE';
}

async function runCommand(description: CommandDescription, command: Command): Promise<ExitCode> {
  const options = command.opts();
  const json = options.json === true;
  const quiet = options.quiet === true;
  const log = logOf(description.name, options);
  const bar = json || quiet || log !== undefined ? undefined : await barOnTerminal();
  const output = new Output(jsonName(description.name), { json, quiet, bar, ...defined({ log }) });
  const startedAt = performance.now();
  let isReady = false;
  using cancellation = new Cancellation(description.name, () => {
    if (!json && log === undefined) output.hint(isReady ? 'ending …' : 'cancelling …');
  });
  log?.('info', 'started');
  try {
    assertDependent(description, command);
    if (options.timeout !== undefined) cancellation.limit(options.timeout);
    const result = await description.run(command.processedArgs, options, {
      program: command.parent ?? command,
      signal: cancellation.signal,
      json,
      log: log ?? (() => {}),
      progress: (event) => output.progress(event),
      warn: (message) => output.warn(message),
      print: (line) => output.print(line),
      ready: (fields, line) => {
        isReady = true;
        cancellation.unlimit();
        output.ready(fields, line);
      },
    });
    output.result(result.fields, result.text);
    const durationMs = Math.round(performance.now() - startedAt);
    log?.('info', 'finished', { ...scalarsOf(result.fields), durationMs });
    if (result.failed === undefined) return EXIT.good;
    output.verdict(oneLine(result.failed));
    return EXIT.failed;
  } catch (error) {
    // Whatever broke off because of ^C is a cancellation, however the broken operation words it.
    const cause = cancellation.signal.aborted ? cancellation.signal.reason : error;
    const failure = describeFailure(description.name, cause);
    output.failure(failure);
    if (process.env.MAPRAM_DEBUG && isError(error))
      process.stderr.write(`${visible(error.stack ?? error.message)}
`);
    return cancellation.exitCode ?? (failure.code === 'USAGE' ? EXIT.usage : EXIT.failed);
  }
}

/** Without the option that they belong to, these would do nothing, and nobody would notice. */
const DEPENDENT: Readonly<Record<string, readonly string[]>> = { '--log-level': ['--log'] };

function assertDependent({ name, dependent }: CommandDescription, command: Command): void {
  const isGiven = (flag: string) => {
    const option = command.options.find(({ long }) => long === flag);
    return option !== undefined && command.getOptionValueSource(option.attributeName()) === 'cli';
  };
  for (const [flag, others] of Object.entries({ ...DEPENDENT, ...dependent })) {
    if (!isGiven(flag) || others.some(isGiven)) continue;
    throw new MapramError(
      'USAGE',
      `${name}: ${flag} does nothing without ${others.join(' or ')}; add that, or omit ${flag}`,
    );
  }
}

function logOf(command: string, options: Options): Log | undefined {
  if (options.log === undefined) return undefined;
  return createLog({
    command,
    format: options.log,
    level: options.logLevel,
    write: (line) => process.stderr.write(`${line}\n`),
  });
}

function describeFailure(command: string, error: unknown): Failure {
  if (error instanceof MapramError) {
    return {
      code: error.code,
      message: oneLine(error.message),
      ...defined({ path: error.path, offset: error.offset }),
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
  const name = commands.find((command) =>
    command.name.split(' ').every((word, index) => word === argv[index]),
  )?.name;
  // Without any command commander has shown the help already.
  if (error.code === 'commander.help') return EXIT.usage;
  const what = oneLine(error.message)
    .replace(/^error: /, '')
    .replace(/^command-argument value '(.*)' is invalid for argument '(.*?)'\./, "'$1' is no $2.")
    .replace(/\.$/, '');
  const subject = name === undefined ? '' : ` ${name}`;
  const message = `${name === undefined ? '' : `${name}: `}${what}; see mapram${subject} --help`;
  const dashes = argv.indexOf('--');
  const json = (dashes < 0 ? argv : argv.slice(0, dashes)).includes('--json');
  new Output(jsonName(name ?? 'mapram'), { json }).failure({ code: 'USAGE', message });
  return EXIT.usage;
}
