/** `--fetch`, `--max-rate` and `--offline-timeout` of commands that start VMs from a store. */
import { type Command, Option } from 'commander';
import { defined } from '../defined.js';
import type { LazyOptions } from '../snapshot/store/local-copy.js';
import { parseDuration, parseSizeArgument } from './arguments.js';
import type { Options } from './command.js';

export function declareFetchOptions(command: Command): void {
  command
    .addOption(
      new Option(
        '--fetch <what>',
        'from a store: all, while the VM runs; on-demand, only what it reads; first, all before it starts',
      )
        .choices(['all', 'on-demand', 'first'])
        .default('all'),
    )
    .option('--max-rate <size>', 'from a store: bytes a second to fetch in the background', parseSizeArgument)
    .option(
      '--offline-timeout <time>',
      'from a store: how long it may be out of reach before VMs that wait for it are ended (default: 5m)',
      parseDuration,
    );
}

export function fetchOptionsOf({ fetch, maxRate, offlineTimeout }: Options): LazyOptions {
  return { fetch, ...defined({ maxRate, offlineTimeoutMs: offlineTimeout }) };
}
