/**
 * Completion scripts for bash, zsh and fish. They hold every command and option as text, so that completing starts no
 * process; arguments without fixed choices are completed as file names.
 */
import type { CommandNode, CommandTree, OptionNode } from './command-tree.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, tree: CommandTree): string {
  return { bash, zsh, fish }[shell](tree);
}

/** Commands that have commands below them, and the names of those. */
function groupsOf({ commands }: CommandTree): Map<string, CommandNode[]> {
  const groups = new Map<string, CommandNode[]>();
  for (const command of commands) {
    const [group = '', below] = command.name.split(' ');
    if (below !== undefined) groups.set(group, [...(groups.get(group) ?? []), command]);
  }
  return groups;
}

/** What the first word may be. */
const firstWords = ({ commands }: CommandTree): string[] => [
  ...new Set(commands.map(({ name }) => name.replace(/ .*/, ''))),
];

/** The second word of a command of a group. */
const secondWord = ({ name }: CommandNode): string => name.replace(/.* /, '');

function bash(tree: CommandTree): string {
  const commands = firstWords(tree).join(' ');
  const values = new Map<string, string>();
  for (const command of tree.commands) {
    for (const option of command.options.filter((one) => one.value !== undefined)) {
      for (const name of namesOf(option)) values.set(`${command.name} ${name}`, bashValues(option));
    }
  }
  return `# bash completion for ${tree.name}: source this file, or put it into ~/.local/share/bash-completion/completions/${tree.name}
_${tree.name}() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command=\${COMP_WORDS[1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W ${quote(`${commands} ${allNames(tree.options)}`)} -- "$word"))
    return
  fi
  case "$command" in
${[...groupsOf(tree)]
  .map(
    ([group, below]) => `    ${group})
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W ${quote(below.map(secondWord).join(' '))} -- "$word"))
        return
      fi
      command="$command \${COMP_WORDS[2]}" ;;`,
  )
  .join('\n')}
  esac
  local i
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [ "\${COMP_WORDS[i]}" = -- ]; then
      COMPREPLY=($(compgen -f -- "$word"))
      return
    fi
  done
  case "$command $previous" in
${[...values]
  .map(([key, action]) => `    ${quote(key)}) COMPREPLY=($(compgen ${action} -- "$word")); return ;;`)
  .join('\n')}
  esac
  case "$command" in
${tree.commands
  .map((command) => {
    const words = [...command.arguments.flatMap((argument) => argument.choices)].join(' ');
    const plain = words === '' ? '-f' : `-W ${quote(words)}`;
    return `    ${quote(command.name)})
      case "$word" in
        -*) COMPREPLY=($(compgen -W ${quote(allNames(command.options))} -- "$word")) ;;
        *) COMPREPLY=($(compgen ${plain} -- "$word")) ;;
      esac ;;`;
  })
  .join('\n')}
  esac
}
complete -o filenames -F _${tree.name} ${tree.name}
`;
}

function bashValues({ choices, takesPath }: OptionNode): string {
  return takesPath ? '-f' : `-W ${quote(choices.join(' '))}`;
}

function zsh(tree: CommandTree): string {
  const groups = groupsOf(tree);
  const described = firstWords(tree).map((word) => {
    const command = tree.commands.find(({ name }) => name === word);
    return zshDescribed(word, command?.summary ?? groups.get(word)?.map(secondWord).join(', ') ?? '');
  });
  return `#compdef ${tree.name}
# zsh completion for ${tree.name}: put it as _${tree.name} into a directory of $fpath, or source it
_${tree.name}() {
  local -a commands
  commands=(
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    _arguments ${tree.options.map(zshOption).join(' ')}
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${[...groups].map(([group, below]) => zshGroup(group, below)).join('\n')}
  esac
  case $command in
${tree.commands.map(zshCommand).join('\n')}
  esac
}
if [ "$funcstack[1]" = _${tree.name} ]; then
  _${tree.name} "$@"
elif (( $+functions[compdef] )); then
  compdef _${tree.name} ${tree.name}
fi
`;
}

function zshDescribed(word: string, summary: string): string {
  return `    ${quote(`${word}:${summary.replaceAll(':', '\\:')}`)}`;
}

function zshGroup(group: string, below: readonly CommandNode[]): string {
  return `    ${group})
      if (( CURRENT == 2 )); then
        commands=(
${below.map((command) => zshDescribed(secondWord(command), command.summary)).join('\n')}
        )
        _describe command commands
        return
      fi
      command="$command $words[2]"
      shift words
      (( CURRENT-- )) ;;`;
}

function zshCommand({ name, arguments: args, options }: CommandNode): string {
  const specs = [
    ...options.map(zshOption),
    ...args.map(({ name: what, choices, variadic }, index) =>
      quote(`${variadic ? '*' : index + 1}:${what}:${zshValues(choices, true)}`),
    ),
  ];
  return `    ${quote(name)})\n      _arguments -s \\\n        ${specs.join(' \\\n        ')} ;;`;
}

function zshOption(option: OptionNode): string {
  const text = option.description.replaceAll(/[[\]:\\]/g, '\\$&');
  const value =
    option.value === undefined ? '' : `:${option.value}:${zshValues(option.choices, option.takesPath)}`;
  const specs = namesOf(option).map((name) => quote(`${name}[${text}]${value}`));
  return specs.join(' ');
}

function zshValues(choices: readonly string[], takesPath: boolean): string {
  return choices.length > 0 ? `(${choices.join(' ')})` : takesPath ? '_files' : ' ';
}

function fish(tree: CommandTree): string {
  const lines = [
    `# fish completion for ${tree.name}: put it into ~/.config/fish/completions/${tree.name}.fish, or source it`,
    `complete -c ${tree.name} -n __fish_use_subcommand -f`,
    ...tree.options.map((option) => fishOption(tree.name, '__fish_use_subcommand', option)),
  ];
  for (const [group, below] of groupsOf(tree)) {
    const names = below.map(secondWord).join(' ');
    lines.push(
      `complete -c ${tree.name} -n __fish_use_subcommand -a ${group} -d ${quote(below.map(secondWord).join(', '))}`,
    );
    const condition = quote(
      `__fish_seen_subcommand_from ${group}; and not __fish_seen_subcommand_from ${names}`,
    );
    for (const command of below)
      lines.push(
        `complete -c ${tree.name} -n ${condition} -f -a ${secondWord(command)} -d ${quote(command.summary)}`,
      );
  }
  for (const command of tree.commands) lines.push(...fishCommand(tree, command));
  return `${lines.join('\n')}\n`;
}

function fishCommand(tree: CommandTree, command: CommandNode): string[] {
  const [first = '', second] = command.name.split(' ');
  const lines = [`# ${tree.name} ${command.name}`];
  const seen = [`__fish_seen_subcommand_from ${first}`];
  if (second !== undefined) seen.push(`and __fish_seen_subcommand_from ${second}`);
  else {
    lines.push(`complete -c ${tree.name} -n __fish_use_subcommand -a ${first} -d ${quote(command.summary)}`);
    // A group may have a command of the same name.
    for (const [group, below] of groupsOf(tree))
      if (below.some((one) => secondWord(one) === first))
        seen.push(`and not __fish_seen_subcommand_from ${group}`);
  }
  const condition = quote(seen.join('; '));
  for (const option of command.options) lines.push(fishOption(tree.name, condition, option));
  for (const { choices } of command.arguments.filter((argument) => argument.choices.length > 0))
    lines.push(`complete -c ${tree.name} -n ${condition} -f -a ${quote(choices.join(' '))}`);
  return lines;
}

function fishOption(program: string, condition: string, option: OptionNode): string {
  const short = option.short === undefined ? '' : ` -s ${option.short.slice(1)}`;
  const value =
    option.value === undefined
      ? ''
      : option.takesPath
        ? ' -r -F'
        : ` -x -a ${quote(option.choices.join(' '))}`;
  return `complete -c ${program} -n ${condition}${short} -l ${option.long.slice(2)}${value} -d ${quote(option.description)}`;
}

function namesOf({ short, long }: OptionNode): string[] {
  return short === undefined ? [long] : [short, long];
}

function allNames(options: readonly OptionNode[]): string {
  return options.flatMap(namesOf).join(' ');
}

/** One word for a shell, whatever is in it. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
