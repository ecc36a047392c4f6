import { Argument } from 'commander';
import type { CommandOf } from '../command.js';
import { commandTree } from '../command-tree.js';
import { completionScript, SHELLS, type Shell } from '../completion.js';
import { Verbatim } from '../verbatim.js';

export const completion: CommandOf<'completion'> = {
  name: 'completion',
  onlyAnswers: true,
  instant: true,
  summary: 'print a script that completes commands and options in a shell',
  declare(command) {
    command.addArgument(new Argument('<shell>', 'the shell').choices(SHELLS)).addHelpText(
      'after',
      `
Examples:
  source <(mapram completion bash)
  mapram completion zsh > ~/.zsh/completions/_mapram
  mapram completion fish > ~/.config/fish/completions/mapram.fish`,
    );
  },
  async run([shell], _options, { program }) {
    const script = completionScript(shell as Shell, commandTree(program));
    return { fields: { shell: String(shell), script }, text: new Verbatim(script.trimEnd()) };
  },
};
