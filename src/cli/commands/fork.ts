import { Option } from 'commander';
import { defined } from '../../defined.js';
import { type ForkedVms, type ForkOptions, fork as forkVm } from '../../snapshot/resume/fork.js';
import { allowancesOf, declareAllowances } from '../allowances.js';
import { parseCount, parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { declareFetchOptions, fetchOptionsOf } from '../fetch-options.js';
import { formatDuration, plural, table } from '../format.js';
import { startTrusted } from '../trust-question.js';
import {
  checked,
  checkOptions,
  describeCrash,
  endsOnDamage,
  onDamageFound,
  onDamageOption,
  prefetchOption,
  SIGNATURE_OPTION,
  secretOption,
  untilEnded,
  VERIFY_OPTION,
} from './resume.js';

export const fork: CommandOf<'fork'> = {
  name: 'fork',
  summary: 'start many VMs from one saved file at once, sharing its memory copy-on-write',
  declare(command) {
    command
      .argument(
        '<file>',
        'a mapped-ram file of mapram, QEMU or libvirt, which is never written to, or PLACE/NAME in a store',
      )
      .argument('[qemu...]', "behind --: the VM's command line; by default the one recorded in the file")
      .requiredOption('--count <n>', 'how many clones', parseCount)
      .option('--dir <dir>', "for the clones' sockets, logs and disks (default: a new temporary folder)")
      .option('--new-macs', 'give the virtio-net cards of each clone MAC addresses of their own')
      .option('--keep', 'keep the folders of clones that have ended; by default they are removed')
      .addOption(new Option('--paused', 'leave the guests stopped').conflicts('cont'))
      .option('--cont', 'let the guests run, also when the VM was saved paused')
      .option('--detach', 'leave the clones running; without it they end with this command')
      .addOption(prefetchOption())
      .addOption(secretOption())
      .option(...VERIFY_OPTION)
      .addOption(onDamageOption())
      .option(...SIGNATURE_OPTION)
      .option('--offset <bytes>', 'where in the file the stream starts', parseOffset)
      .addHelpText(
        'after',
        `
Each clone gets a folder DIR/clone-N with its QMP socket, its serial and log files, and for each
writable disk a qcow2 overlay of the recorded one. Where DIR has clones already, the new ones get the next numbers that are free.

Examples:
  mapram fork vm.mapram --count 8 --dir /run/clones --detach --json
  mapram fork vm.mapram --count 2 -- qemu-system-x86_64 -machine q35 -m 1G -nodefaults -display none`,
      );
    declareFetchOptions(command);
    declareAllowances(command);
  },
  dependent: { '--on-damage': ['--verify', '--require-signature'] },
  async run([file, command], options, context) {
    const { dir, secret, detach = false } = options;
    const request: ForkOptions = {
      file: String(file),
      count: options.count,
      ...defined({ command: (command as string[]).length === 0 ? undefined : (command as string[]) }),
      ...defined({ dir, secrets: secret, offset: options.offset }),
      newMacs: options.newMacs === true,
      keep: options.keep === true,
      paused: options.paused === true,
      cont: options.cont === true,
      ...allowancesOf(options),
      ...fetchOptionsOf(options),
      prefetch: options.prefetch,
      ...checkOptions(options),
      signal: context.signal,
      onProgress: context.progress,
      onWarning: context.warn,
    };
    const clones = await startTrusted(request, context, forkVm);
    const fields = {
      vms: clones.vms.map(({ facts }) => facts),
      totalTimeMs: clones.totalTimeMs,
      directory: clones.directory,
    };
    if (detach) {
      await clones.vms[0]?.prefetched;
      const verdict = await checked(clones, String(file), context);
      if (endsOnDamage(options, verdict)) await clones[Symbol.asyncDispose]();
      else await clones.detach();
      return { fields: { ...fields, ...verdict.fields }, text: describe(clones), ...verdict.failure };
    }
    await using running = clones;
    context.ready(fields, describe(clones));
    onDamageFound(clones, options, context, () => Promise.all(running.vms.map((vm) => vm.end())));
    let crashed = 0;
    for (const vm of running.vms) {
      void vm.exited.then((status) => {
        const crash = describeCrash(status);
        if (crash === undefined || context.signal.aborted) return;
        crashed++;
        context.warn(`the clone at ${vm.facts.qmp} ended: ${crash}`);
      });
    }
    await untilEnded(Promise.all(running.vms.map(({ exited }) => exited)), context.signal);
    const verdict = await checked(clones, String(file), context);
    const died =
      crashed > 0
        ? {
            failed: `forking ${file}: ${crashed} of ${plural(running.vms.length, 'clone')} failed or were killed`,
          }
        : {};
    return { fields: { ...fields, ...verdict.fields }, text: '', ...died, ...verdict.failure };
  },
};

function describe({ vms, totalTimeMs }: ForkedVms): string {
  const rows = vms.map(({ facts }) => [
    facts.qmp,
    String(facts.pid),
    facts.runState,
    formatDuration(facts.loadTimeMs),
  ]);
  return `${table([['QMP', 'process', 'VM', 'state loaded in'], ...rows], '<><>')}\n${plural(vms.length, 'clone')} in ${formatDuration(totalTimeMs)}`;
}
