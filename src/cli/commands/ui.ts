import { existsSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { parseBuiltinOptions } from '../../guest/builtin/options.js';
import { packageVersion } from '../../package-version.js';
import { UiServer } from '../../ui/ui-server.js';
import type { CommandOf } from '../command.js';

export const ui: CommandOf<'ui'> = {
  name: 'ui',
  onlyAnswers: true,
  summary: 'a local page that shows VMs and saved files, and saves, restores, resumes and verifies them',
  declare(command) {
    command
      .argument('[directories...]', 'where saved VMs are and go; the current directory by default')
      .option('--port <n>', 'TCP port on 127.0.0.1 (default: a free one)', parsePort)
      .option('--sockets <paths...>', 'QMP sockets, directories of them, or patterns such as /run/*.qmp')
      .option('--no-find-running', 'only VMs of --sockets, not all QEMUs that run here')
      .option('--builtin [options...]', 'also run a builtin guest, e.g. size=256M, to try things with')
      .option('--no-speed-trial', 'do not try how fast the disks are (at most 256 MiB are written for that)')
      .addHelpText(
        'after',
        `
Open the printed address in a browser. It holds a token: whoever has it can do what this command may do.
^C cancels what is under way and ends. Directories come before --sockets and --builtin, which take all words that follow.

Examples:
  mapram ui /var/lib/vm
  mapram ui /var/lib/vm --sockets /run/vm '/srv/*/qmp.sock'
  mapram ui --builtin size=512M`,
      );
  },
  async run([directories], { port, sockets, builtin, findRunning, speedTrial }, { signal, ready }) {
    const given = directories as string[];
    const guests: string[] = builtin === true ? [''] : (builtin ?? []);
    assertNoDirectory(guests);
    await using server = await UiServer.start({
      directories: given.length === 0 ? ['.'] : given,
      sockets: sockets ?? [],
      builtins: guests.map((text) => parseBuiltinOptions(text)),
      findRunning: findRunning !== false,
      measureDisks: speedTrial !== false,
      version: packageVersion(),
      ...defined({ port }),
    });
    ready({ url: server.url }, server.url);
    await untilAborted(signal);
    return { fields: {}, text: '' };
  },
};

/** An option that takes any number of words takes those after them as well. */
function assertNoDirectory(builtins: readonly string[]): void {
  const directory = builtins.find((text) => text !== '' && existsSync(text));
  if (directory === undefined) return;
  throw new MapramError(
    'USAGE',
    `ui: ${directory} follows --builtin and is taken for its options; put directories first: mapram ui ${directory} --builtin …`,
    { path: directory },
  );
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > 65_535) throw new InvalidArgumentError('Expected a port from 0 to 65535.');
  return port;
}
