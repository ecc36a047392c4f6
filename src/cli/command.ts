import type { Command } from 'commander';
import type { ProgressEvent } from '../progress.js';
import type { Log } from './log.js';
import type { ReadyReports, Results } from './results.js';
import type { Verbatim } from './verbatim.js';

/**
 * One command of the command line. A file in `commands/` exports one of these and `registry.ts` lists it; parsing,
 * output, signals and exit codes are the frame's.
 */
export interface CommandDescription<Result extends object = object, Ready extends object = object> {
  /** What the user types after `mapram`: one word, or two for a command of a group, `store push`. */
  readonly name: string;
  /** One line, for `mapram --help`. */
  readonly summary: string;
  /** Whether its output is all that it is for: it then has no `--quiet`. */
  readonly onlyAnswers?: true;
  /** Whether it is done in no time: it then has no `--timeout`. */
  readonly instant?: true;
  /** Options, by their long flags, that do nothing without one of others: refused without these. */
  readonly dependent?: Readonly<Record<string, readonly string[]>>;
  /** Declares arguments, options and help text. `--json`, `--quiet`, `--timeout` and `--log` are declared by the frame. */
  declare(command: Command): void;
  /**
   * Does the work and cleans up after itself, also when it throws.
   *
   * @param args the declared arguments in order, as their parsers returned them
   * @param options the declared options under commander's camelCase names
   */
  run(
    args: readonly unknown[],
    options: Options,
    context: CommandContext<Ready>,
  ): Promise<CommandResult<Result>>;
}

/** What the names of commands are in JSON lines, schemas and the log. */
export type CommandName = keyof Results;

/** A command that writes what `Results` has under its name, and what `ReadyReports` has. */
export type CommandOf<Name extends CommandName> = CommandDescription<
  Results[Name],
  Name extends keyof ReadyReports ? ReadyReports[Name] : never
>;

/** What a command is called where that is one word: in its JSON lines, its schema and its log. */
export const jsonName = (name: string): string => name.replace(' ', '-');

// biome-ignore lint/suspicious/noExplicitAny: each command declares its options and knows their types
export type Options = Readonly<Record<string, any>>;

/** What a command gets from the frame. */
export interface CommandContext<Ready extends object = never> {
  /** The whole command line, for commands that are about it. */
  readonly program: Command;
  /** Fires at the first ^C, SIGTERM or SIGHUP: undo what was begun and throw; its reason is a CANCELLED error. */
  readonly signal: AbortSignal;
  /** True with `--json`: stdout then belongs to JSON lines. */
  readonly json: boolean;
  /** Writes a record of the structured log; nothing without `--log`. */
  readonly log: Log;
  /** Shows how far it is: a bar on a terminal, JSON lines with `--json`, otherwise nothing. */
  progress(event: ProgressEvent): void;
  /** One warning line on stderr; with `--json` also one object on stdout. */
  warn(message: string): void;
  /** One line for people on stdout, at once. Nothing with `--json`. */
  print(line: string): void;
  /** Says that a command that serves until it is stopped is ready: `line`, or with `--json` one object with `fields`. */
  ready(fields: Ready, line: string): void;
}

/** Strings may quote anything: what would steer a terminal is spelled out when they are printed. */
export type ResultText = string | Verbatim | readonly (string | Verbatim)[];

/** What a command leaves behind. */
export interface CommandResult<Result extends object = object> {
  /** Members of the last JSON line, beside `result`. May hold bigint (written as integers) and bytes (written as hex). */
  readonly fields: Result;
  /** What is printed without `--json`; of several parts with an empty line between them. */
  readonly text: ResultText;
  /** What to say on stderr when the command did its work and the answer is a bad one (`verify` found damage): exit code 1. */
  readonly failed?: string;
}
