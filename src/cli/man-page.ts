/** The manual page mapram(1), in the man(7) language, written from the same command line as the help texts. */
import type { CommandNode, CommandTree, OptionNode } from './command-tree.js';

export function manPage(tree: CommandTree): string {
  const title = tree.name.toUpperCase();
  return [
    `.TH ${title} 1 "" "${tree.name} ${tree.version}" "User Commands"`,
    '.SH NAME',
    `${tree.name} \\- save, load and inspect the memory of QEMU virtual machines`,
    '.SH SYNOPSIS',
    `.B ${tree.name}`,
    '.I COMMAND',
    '[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]',
    '.SH DESCRIPTION',
    text(tree.description),
    '.SH OPTIONS',
    ...tree.options.flatMap(option),
    '.SH COMMANDS',
    ...tree.commands.flatMap((command) => commandSection(tree.name, command)),
    '.SH EXIT STATUS',
    '.TP\n.B 0\nThe command did its work and found nothing wrong.',
    '.TP\n.B 1\nIt failed, or found damage; one line on standard error says what and why.',
    '.TP\n.B 2\nWrong usage.',
    '.TP\n.B 130\nIt was cancelled by ^C, and has put everything back; 143 and 129 after SIGTERM and SIGHUP.',
    '.SH ENVIRONMENT',
    '.TP\n.B NO_COLOR\nWhere it is set and not empty, output has no colours.',
    `.TP\n.B MAPRAM_DEBUG\nWhere it is set, a failure shows where in ${text(tree.name)} it came from.`,
    '.TP\n.B TMPDIR\nWhere the folders of clones and sockets are made that were given no place; /tmp by default.',
    '.TP\n.B XDG_RUNTIME_DIR\nWhere the records of saves and of VMs lie, in a folder mapram; /tmp/mapram\\-UID by default.',
    '.TP\n.B MAPRAM_STORE_IDENTITY\nThe file of age identities that opens encrypted stores.',
    '.TP\n.B MAPRAM_STORE_PASSPHRASE_FILE\nThe file whose first line is the passphrase that opens encrypted stores.',
    `.TP\n.B DEBUG\nWith\n.B ${text(`${tree.name}:syscalls`)}\nin it, every system call is shown on standard error.`,
    '',
  ].join('\n');
}

function commandSection(program: string, command: CommandNode): string[] {
  return [
    `.SS ${text(`${program} ${command.name} ${command.usage}`)}`,
    text(command.description),
    ...command.arguments.flatMap(({ name, description }) => ['.TP', `.I ${text(name)}`, text(description)]),
    ...command.options.flatMap(option),
    ...(command.notes === '' ? [] : ['.PP', '.nf', text(command.notes), '.fi']),
  ];
}

function option({ flags, description, choices, defaultValue }: OptionNode): string[] {
  const remarks = [
    ...(choices.length === 0 ? [] : [`one of ${choices.join(', ')}`]),
    ...(defaultValue === undefined ? [] : [`default ${defaultValue}`]),
  ];
  const tail = remarks.length === 0 ? '' : ` (${remarks.join('; ')})`;
  return ['.TP', `.B ${text(flags)}`, text(`${description}${tail}`)];
}

/** Words that roff must not take as requests or escapes. */
function text(words: string): string {
  return words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .replaceAll(/^(?=['.])/gm, '\\&');
}
