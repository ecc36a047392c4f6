import { InvalidArgumentError, Option } from 'commander';
import { STREAM_COMPRESSIONS } from '../../channels/socket/payload-decoder.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import type { LiveLimits } from '../../migration/live-limits.js';
import { SAVE_METHODS } from '../../migration/save-method.js';
import { formatLibvirtAddress } from '../../qmp/libvirt/libvirt-address.js';
import { formatSize } from '../../size.js';
import { type SaveOptions, type SaveResult, save as saveVm } from '../../snapshot/save/save.js';
import type { SaveToStoreResult } from '../../snapshot/store/save-to-store.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import { isStoreAddress } from '../../store/open-place.js';
import { assertVmAndFile } from '../argument-order.js';
import {
  directIoOption,
  parseDuration,
  parseOffset,
  parseVmAddress,
  tunedChannelsOption,
  VM_HELP,
  type VmAddress,
} from '../arguments.js';
import type { CommandOf, CommandResult, Options } from '../command.js';
import { formatDuration, plural, properties } from '../format.js';
import { openVm } from '../vm-argument.js';

export const save: CommandOf<'save'> = {
  name: 'save',
  summary: "save a VM's memory and device state into a file",
  declare(command) {
    command
      .argument('<vm>', `${VM_HELP}; not with --via-libvirt`, (text: string) =>
        command.opts().viaLibvirt === undefined ? parseVmAddress(text) : text,
      )
      .argument(
        '[file]',
        'the file to write, which appears when it is complete and on disk; or PLACE/NAME in a store',
      )
      .addOption(directIoOption())
      .addOption(tunedChannelsOption())
      .addOption(
        new Option(
          '--method <method>',
          'shared: mapram copies the RAM of a stopped VM; native: QEMU 9.1+ writes the file; stream: any QEMU sends it; incremental: what a resumed VM has changed',
        )
          .choices(['auto', ...SAVE_METHODS])
          .default('auto'),
      )
      .option('--live', 'let the VM run on while its RAM is saved')
      .option('--background', 'stop the VM for its device state only, and save its RAM behind its back')
      .option(
        '--downtime-limit <time>',
        'with --live: how long the VM may be paused at the end, 2000s at most',
        parseDowntime,
      )
      .option('--auto-converge', 'with --live: slow the VM down while it dirties memory too fast')
      .option('--max-time <time>', 'with --live: how long the VM may run on, such as 60s', parseDuration)
      .addOption(
        new Option('--on-timeout <what>', 'with --max-time: stop the VM and save the rest, or give up')
          .choices(['stop', 'cancel'])
          .default('stop'),
      )
      .option('--via-libvirt <domain>', 'the VM is this domain, asked through virsh: as libvirt:DOMAIN')
      .option('--no-multifd', 'stream: one connection instead of --channels of them')
      .addOption(
        new Option(
          '--compression <method>',
          'stream: how QEMU compresses on the way; the file is not compressed',
        )
          .choices(STREAM_COMPRESSIONS)
          .default('none'),
      )
      .addOption(
        new Option('--then <what>', 'what becomes of the VM (default: the state it was in)').choices([
          'cont',
          'stop',
          'quit',
        ]),
      )
      .option('--force', 'replace an existing file, once the new one is complete')
      .option('--no-checksums', 'leave out the checksums of pages')
      .option('--sign <key>', 'sign the file with this Ed25519 private key in PEM form')
      .option('--offset <bytes>', 'start the stream at this place of the file', parseOffset)
      .addHelpText(
        'after',
        `
Examples:
  mapram save /run/vm.qmp /var/lib/vm/vm.mapram
  mapram save --direct-io on --channels 4 --then stop /run/vm.qmp vm.mapram
  mapram save --live --max-time 60s --on-timeout cancel /run/vm.qmp vm.mapram
  mapram save --via-libvirt web web.mapram
  mapram save /run/vm.qmp dir:/srv/snapshots/web
  mapram save builtin:size=256M demo.mapram`,
      );
  },
  dependent: {
    '--downtime-limit': ['--live'],
    '--auto-converge': ['--live'],
    '--max-time': ['--live'],
    '--on-timeout': ['--max-time'],
  },
  async run(args, options, { signal, progress, warn }) {
    const { address, file } = vmAndFile(args, options);
    assertVmAndFile(address, file, 'save VM FILE');
    const { directIo, channels, method, background, multifd, compression, then, force, offset } = options;
    const { checksums, sign } = options;
    await using opened = await openVm(address, 'running');
    using _ = reportsWait(signal, warn);
    const request: Omit<SaveOptions, 'file' | 'force'> = {
      vm: opened.vm,
      directIo,
      ...defined({ channels }),
      method,
      live: liveOf(options),
      background: background === true,
      ...defined({ multifd: multifd ? undefined : false }),
      compression,
      checksums,
      ...defined({ sign, afterwards: then, offset }),
      signal,
      onProgress: progress,
      onWarning: warn,
    };
    if (isStoreAddress(file)) return await toStore(file, request, force);
    const result = await saveVm({ ...request, file, force: force === true });
    return { fields: result, text: describe(result) };
  },
};

/** With `--via-libvirt` the file is the only argument. */
function vmAndFile(
  [first, second]: readonly unknown[],
  { viaLibvirt }: Options,
): { address: VmAddress; file: string } {
  if (viaLibvirt === undefined) {
    if (second === undefined) throw usage("missing required argument 'file'");
    return { address: first as VmAddress, file: String(second) };
  }
  if (second !== undefined)
    throw usage(`--via-libvirt takes the place of the VM, so ${first} is one argument too many`);
  return {
    address: { kind: 'libvirt', address: formatLibvirtAddress({ domain: viaLibvirt }) },
    file: String(first),
  };
}

const usage = (problem: string) => new MapramError('USAGE', `save: ${problem}; see mapram save --help`);

/** Less than this after ^C nobody needs a word. */
const WORTH_A_WORD_MS = 1000;

/** A QEMU that is busy may take its time to give a save up. */
function reportsWait(signal: AbortSignal, warn: (message: string) => void): Disposable {
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(warn, WORTH_A_WORD_MS, 'waiting for QEMU; ^C again leaves it to the guard');
  };
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    [Symbol.dispose]() {
      signal.removeEventListener('abort', onAbort);
      clearTimeout(timer);
    },
  };
}

/** A snapshot in a store is never replaced: what is saved becomes the newest of its name. */
async function toStore(
  to: string,
  request: Omit<SaveOptions, 'file' | 'force'>,
  force: unknown,
): Promise<CommandResult<SaveToStoreResult>> {
  if (force !== undefined) {
    throw new MapramError('USAGE', 'save: --force is for files; in a store nothing is replaced');
  }
  const [{ saveToStore }, { describePush }] = await Promise.all([
    import('../../snapshot/store/save-to-store.js'),
    import('./store-push.js'),
  ]);
  const result = await saveToStore({ ...request, to, unlock: unlockFromEnvironment() });
  return { fields: result, text: `${describe(result)}\n\n${describePush(result.pushed)}` };
}

function liveOf({ live, downtimeLimit, autoConverge, maxTime, onTimeout }: Options): boolean | LiveLimits {
  if (live !== true) return false;
  return {
    ...defined({ downtimeLimitMs: downtimeLimit }),
    ...defined({ autoConverge: autoConverge === true || undefined }),
    ...(maxTime === undefined ? {} : { maxTimeMs: maxTime, onTimeout }),
  };
}

/** QEMU takes no more. */
const MAX_DOWNTIME_MS = 2_000_000;

function parseDowntime(text: string): number {
  const limit = parseDuration(text);
  if (limit > MAX_DOWNTIME_MS) throw new InvalidArgumentError('Expected a time of 2000s at most.');
  return limit;
}

function describeBase({ changedPages, shared }: NonNullable<SaveResult['base']>): string {
  const others = shared ? 'the others are shared with it' : 'the others were copied';
  return `${plural(changedPages, 'page')} taken from the VM, ${others}`;
}

function describe(result: SaveResult): string {
  const { normalBytes, duplicatePages, ramBytes, totalTimeMs } = result;
  const rate = totalTimeMs > 0 ? ` (${formatSize(Math.round((normalBytes / totalTimeMs) * 1000))}/s)` : '';
  return properties([
    ['saved', `${result.file}, ${formatSize(result.allocatedBytes)} on disk`],
    ['method', `${result.method}: ${result.methodReason}`],
    ...(result.base === undefined ? [] : [['base', describeBase(result.base)] as const]),
    ['direct I/O', `${result.directIo ? 'on' : 'off'}: ${result.directIoReason}`],
    ['channels', `${result.channels}: ${result.channelsReason}`],
    [
      'memory',
      `${formatSize(ramBytes)}, of it ${formatSize(normalBytes)} written, ${duplicatePages} zero pages left out`,
    ],
    ['time', `${formatDuration(totalTimeMs)}${rate}, guest stopped for ${formatDuration(result.downtimeMs)}`],
    ['checksums', `${result.checksums}${result.signed ? ', signed' : ''}`],
    ['VM', result.runState],
  ]);
}
