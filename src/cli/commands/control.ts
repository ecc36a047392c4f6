/** `stop`, `cont` and `quit`: what is done to VMs that run. */
import type { Command } from 'commander';
import { defined } from '../../defined.js';
import {
  type ControlledVm,
  type ControlOptions,
  continueVms,
  type EndedVm,
  quitVms,
  stopVms,
} from '../../snapshot/lifecycle/control-vms.js';
import type { CommandContext, CommandOf, CommandResult } from '../command.js';
import { table } from '../format.js';
import type { Results } from '../results.js';

const WHICH = `
VM is a QMP socket or tcp:HOST:PORT of any QEMU. Of VMs that mapram has started ("mapram ps") it can be a process id, the folder of a clone or of
several, or the file from which they were started; then all of these are meant.`;

export const stop: CommandOf<'stop'> = {
  name: 'stop',
  summary: 'pause VMs: their processors stop, all else stays',
  declare(command) {
    declareVms(command);
    command.addHelpText('after', `${WHICH}\n\nExamples:\n  mapram stop /run/vm.qmp\n  mapram stop vm.mapram`);
  },
  run: (args, _options, context) => control(args, context, stopVms),
};

export const cont: CommandOf<'cont'> = {
  name: 'cont',
  summary: 'let paused VMs run',
  declare(command) {
    declareVms(command);
    command.addHelpText('after', `${WHICH}\n\nExamples:\n  mapram cont /run/vm.qmp\n  mapram cont vm.mapram`);
  },
  run: (args, _options, context) => control(args, context, continueVms),
};

export const quit: CommandOf<'quit'> = {
  name: 'quit',
  summary: 'end VMs, and remove the folders that mapram made for them',
  declare(command) {
    declareVms(command);
    command.option('--keep', 'leave the folders of clones, with their disks and logs').addHelpText(
      'after',
      `
The guest is not asked to shut down: it is as if its power failed. The saved file stays.
${WHICH}

Examples:
  mapram quit /run/copy.qmp
  mapram quit --keep /run/clones/clone-3
  mapram quit vm.mapram`,
    );
  },
  async run([names], { keep }, { signal }) {
    const vms: EndedVm[] = [];
    for (const vm of names as string[]) vms.push(...(await quitVms({ vm, keep: keep === true, signal })));
    return { fields: { vms }, text: table(vms.map(describeEnd)) };
  },
};

function declareVms(command: Command): void {
  command.argument(
    '<vm...>',
    'a QMP socket, tcp:HOST:PORT, a process id, the folder of clones, or a saved file',
  );
}

async function control(
  [names]: readonly unknown[],
  { signal }: CommandContext,
  act: (options: ControlOptions) => Promise<ControlledVm[]>,
): Promise<CommandResult<Results['stop' | 'cont']>> {
  const vms: ControlledVm[] = [];
  for (const vm of names as string[]) vms.push(...(await act({ vm, ...defined({ signal }) })));
  return { fields: { vms }, text: table(vms.map(({ qmp, runState }) => [qmp, runState])) };
}

function describeEnd({ qmp, by, removed, kept }: EndedVm): string[] {
  const how = by === 'quit' ? 'ended' : `ended by ${by}: its monitor did not answer`;
  if (removed !== undefined) return [qmp, `${how}; ${removed} removed`];
  return [qmp, kept === undefined ? how : `${how}; ${kept} kept`];
}
