/** The command line as plain values, read from commander: what completion and the manual page are written from. */

import type { Command, Help, Option } from 'commander';
import { defined } from '../defined.js';

export interface CommandTree {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
}

export interface CommandNode {
  /** With the name of its group before it, if it has one. */
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  /** What follows the name: `[options] <vm> <file>`. */
  readonly usage: string;
  readonly arguments: readonly ArgumentNode[];
  readonly options: readonly OptionNode[];
  /** What the help says below the options: examples, remarks. */
  readonly notes: string;
}

export interface ArgumentNode {
  readonly name: string;
  readonly description: string;
  /** The only values that are taken; empty where anything is, a file name for example. */
  readonly choices: readonly string[];
  readonly variadic: boolean;
}

export interface OptionNode {
  /** As the help shows it: `-V, --version`, `--channels <n>`. */
  readonly flags: string;
  readonly short?: string;
  readonly long: string;
  readonly description: string;
  /** The name of its value, undefined for a switch. */
  readonly value?: string;
  readonly choices: readonly string[];
  /** Whether its value is the path of something. */
  readonly takesPath: boolean;
  readonly defaultValue?: string;
}

/** Names of option values that are paths; numbers, times and names are not completed as files. */
const PATH_VALUES = /^(?:socket|file|dir|directory|path)$/;

export function commandTree(program: Command): CommandTree {
  const help = program.createHelp();
  return {
    name: program.name(),
    version: program.version() ?? '',
    description: program.description(),
    options: help.visibleOptions(program).map(optionNode),
    commands: help
      .visibleCommands(program)
      .flatMap((command) =>
        command.commands.length === 0
          ? [commandNode(help, command, command.name())]
          : command.commands.map((one) => commandNode(help, one, `${command.name()} ${one.name()}`)),
      ),
  };
}

function commandNode(help: Help, command: Command, name: string): CommandNode {
  return {
    name,
    summary: command.summary() || command.description(),
    description: command.description(),
    usage: command.usage(),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: argument.description,
      choices: argument.argChoices ?? [],
      variadic: argument.variadic,
    })),
    options: help.visibleOptions(command).map(optionNode),
    notes: helpNotes(command),
  };
}

function optionNode(option: Option): OptionNode {
  const value = /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1];
  const shown = option.defaultValue !== undefined && typeof option.defaultValue !== 'boolean';
  return {
    flags: option.flags,
    ...defined({ short: option.short }),
    long: option.long ?? option.flags,
    description: option.description,
    ...defined({ value }),
    choices: option.argChoices ?? [],
    takesPath: PATH_VALUES.test(value ?? ''),
    ...defined({
      defaultValue: shown ? (option.defaultValueDescription ?? String(option.defaultValue)) : undefined,
    }),
  };
}

/** commander gives what `addHelpText` was told only as part of a help that is written. */
function helpNotes(command: Command): string {
  let text = '';
  const before = command.configureOutput();
  command.configureOutput({ ...before, writeOut: (written) => (text += written) });
  command.outputHelp();
  command.configureOutput(before);
  return text.slice(command.helpInformation().length).trim();
}
