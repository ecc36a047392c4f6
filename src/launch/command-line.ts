/** A QEMU command line as a list of options, each with its argument. */
import { readFileSync } from 'node:fs';
import { isVisibleLine } from '../visible.js';

export interface CommandLineOption {
  /** Without dashes; empty for a bare word, which QEMU takes for a disk image. */
  name: string;
  /** Absent for options that take none. */
  value?: string;
}

/** The options without an argument, of all versions from 4.0 on; every other one takes exactly one. */
const FLAGS = new Set([
  'alt-grab',
  'async-teardown',
  'ctrl-grab',
  'curses',
  'daemonize',
  'enable-fips',
  'enable-kvm',
  'enable-sync-profile',
  'full-screen',
  'h',
  'help',
  'jitdump',
  'mem-prealloc',
  'no-acpi',
  'no-fd-bootchk',
  'no-hpet',
  'no-kvm-irqchip',
  'no-kvm-pit',
  'no-kvm-pit-reinjection',
  'no-quit',
  'no-reboot',
  'no-shutdown',
  'no-user-config',
  'nodefaults',
  'nographic',
  'old-param',
  'only-migratable',
  'perfmap',
  'preconfig',
  'S',
  's',
  'sdl',
  'semihosting',
  'singlestep',
  'snapshot',
  'tdf',
  'usb',
  'version',
  'win2k-hack',
  'xen-attach',
  'xen-domid-restrict',
]);

/** Long names of options that have two. */
const ALIASES: Readonly<Record<string, string>> = { M: 'machine' };

/** Splits the arguments behind the program's name. An option that lacks its argument is kept as it is: QEMU will say so. */
export function parseCommandLine(args: readonly string[]): CommandLineOption[] {
  const options: CommandLineOption[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at] as string;
    if (!word.startsWith('-') || word === '-') {
      options.push({ name: '', value: word });
      continue;
    }
    const bare = word.replace(/^--?/, '');
    const name = ALIASES[bare] ?? bare;
    const value = args[at + 1];
    if (FLAGS.has(name) || value === undefined) options.push({ name });
    else {
      options.push({ name, value });
      at++;
    }
  }
  return options;
}

/** Of a process on this host; undefined where that may not be looked at. */
export function commandLineOf(pid: number): CommandLineOption[] | undefined {
  try {
    return parseCommandLine(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(1, -1));
  } catch {
    return undefined;
  }
}

/** The arguments again, each option with one dash. */
export function formatCommandLine(options: readonly CommandLineOption[]): string[] {
  return options.flatMap(({ name, value }) => [
    ...(name === '' ? [] : [`-${name}`]),
    ...(value === undefined ? [] : [value]),
  ]);
}

/**
 * One line that a shell reads as these words. Words with characters that would steer a terminal are quoted as `$'…'`, with their
 * bytes in octal, as POSIX.1-2024, bash, zsh and ksh read it.
 */
export function quoteForShell(words: readonly string[]): string {
  return words
    .map((word) => {
      if (/^[\w@%+=:,./-]+$/.test(word)) return word;
      return isVisibleLine(word)
        ? `'${word.replaceAll("'", "'\\''")}'`
        : `$'${[...word].map(escaped).join('')}'`;
    })
    .join(' ');
}

function escaped(character: string): string {
  if (character === "'" || character === '\\') return `\\${character}`;
  if (isVisibleLine(character)) return character;
  return Array.from(Buffer.from(character), (byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
}
