/** Runs lines of the human monitor. */
import { errorReason } from '../../errors.js';
import { QmpError } from '../../qmp/qmp-error.js';
import type { MonitorServices } from '../monitor-services.js';
import { CommandLineError, LineReader, parseHumanArguments } from './command-line.js';
import {
  HUMAN_COMMANDS,
  type HumanCommand,
  type HumanContext,
  INFO_COMMANDS,
  servedIn,
} from './human-commands.js';

export class HumanMonitor {
  readonly #monitor: MonitorServices;

  constructor(monitor: MonitorServices) {
    this.#monitor = monitor;
  }

  get #commands(): HumanCommand[] {
    return servedIn(this.#monitor.profile, HUMAN_COMMANDS);
  }

  get #infos(): HumanCommand[] {
    return servedIn(this.#monitor.profile, INFO_COMMANDS);
  }

  /**
   * Runs `line` and gives what it prints, lines ending in CR LF.
   *
   * @returns undefined when the command is not served here
   */
  async run(line: string, context: Pick<HumanContext, 'waitForMigration'> = {}): Promise<string | undefined> {
    let warnings = '';
    const warn = (text: string) => {
      warnings += `warning: ${text}\n`;
    };
    const output = await this.#run(line, { ...context, monitor: this.#monitor, warn });
    return output === undefined ? undefined : `${warnings}${output}`.replaceAll('\n', '\r\n');
  }

  /** What to print when nobody serves the command. */
  unknown(line: string): string {
    const reader = new LineReader(line);
    const name = reader.plainWord();
    const sub = name === 'info' ? reader.plainWord() : '';
    return `unknown command: '${sub === '' ? name : `${name} ${sub}`}'\r\n`;
  }

  /** Words that can stand where the line ends, and begin as its last word does. */
  completions(line: string): { readonly begun: string; readonly words: string[] } {
    const words = line.replace(/^\s+/, '').split(/\s+/);
    const begun = words.at(-1) ?? '';
    const candidates = this.#candidates(words.slice(0, -1));
    return { begun, words: candidates.filter((word) => word.startsWith(begun)).sort() };
  }

  #candidates(before: readonly string[]): string[] {
    const [first, ...rest] = before;
    if (first === undefined) {
      return [
        'help',
        'info',
        ...this.#commands.flatMap(({ name, alias }) => (alias ? [name, alias] : [name])),
      ];
    }
    if (first === 'info') return rest.length === 0 ? this.#infos.map(({ name }) => name) : [];
    if (first === 'help' || first === '?') return rest.length === 0 ? this.#candidates([]) : [];
    const { complete } = find(this.#commands, first) ?? {};
    return [...(complete?.(this.#monitor.profile, rest.length) ?? [])];
  }

  async #run(line: string, context: HumanContext): Promise<string | undefined> {
    const reader = new LineReader(line);
    const name = reader.plainWord();
    if (name === '') return '';
    if (name === 'help' || name === '?') return this.#help(reader);
    if (name === 'info') return this.#info(reader, context);
    const command = find(this.#commands, name);
    return command && runCommand(command, fullName(command), command.name, reader, context);
  }

  async #info(reader: LineReader, context: HumanContext): Promise<string | undefined> {
    const name = reader.plainWord();
    if (name === '') return this.#ownList(this.#infos, 'info ');
    const command = find(this.#infos, name);
    return command && runCommand(command, command.name, `info ${command.name}`, reader, context);
  }

  #help(reader: LineReader): string | undefined {
    const name = reader.plainWord();
    if (name === '') return this.#ownList(this.#commands, '', this.#helpLine(HELP), this.#helpLine(INFO));
    if (name === 'help' || name === '?') return this.#helpLine(HELP);
    if (name === 'info') {
      const topic = reader.plainWord();
      if (topic === '') return this.#ownList(this.#infos, 'info ');
      const command = find(this.#infos, topic);
      return command && this.#helpLine(command, 'info ');
    }
    const command = find(this.#commands, name);
    return command && this.#helpLine(command);
  }

  /** In front of a QEMU the whole list is QEMU's, which has these as well. */
  #ownList(commands: readonly HumanCommand[], prefix: string, ...more: string[]): string | undefined {
    if (this.#monitor.upstream !== undefined) return undefined;
    return [...commands.map((command) => this.#helpLine(command, prefix)), ...more].sort().join('');
  }

  #helpLine(command: HumanCommand, prefix = ''): string {
    const resolve = (text: HumanCommand['help'] | undefined) =>
      typeof text === 'function' ? text(this.#monitor.profile) : (text ?? '');
    return `${prefix}${fullName(command)} ${resolve(command.usage)} -- ${resolve(command.help)}\n`;
  }
}

const HELP: HumanCommand = {
  name: 'help',
  alias: '?',
  usage: '[cmd]',
  help: 'show the help',
  run: () => undefined,
};

const INFO: HumanCommand = {
  name: 'info',
  usage: '[subcommand]',
  help: 'show various information about the system state',
  run: () => undefined,
};

function find(commands: readonly HumanCommand[], name: string): HumanCommand | undefined {
  return commands.find((command) => command.name === name || command.alias === name);
}

function fullName({ name, alias }: HumanCommand): string {
  return alias === undefined ? name : `${name}|${alias}`;
}

async function runCommand(
  command: HumanCommand,
  name: string,
  topic: string,
  reader: LineReader,
  context: HumanContext,
): Promise<string> {
  try {
    const args = parseHumanArguments(reader, name, topic, command.parameters ?? []);
    return (await command.run(context, args)) ?? '';
  } catch (error) {
    if (error instanceof CommandLineError) return error.message;
    return `Error: ${error instanceof QmpError ? error.description : errorReason(error)}\n`;
  }
}
