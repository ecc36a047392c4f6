import { formatSize } from '../../size.js';
import { type ListedVm, listVms } from '../../snapshot/lifecycle/list-vms.js';
import type { CommandOf } from '../command.js';
import { formatDuration, table } from '../format.js';

export const ps: CommandOf<'ps'> = {
  name: 'ps',
  onlyAnswers: true,
  summary: 'list the VMs that mapram has started or is saving',
  declare(command) {
    command.addHelpText(
      'after',
      `
"Own memory" is what ending the VM would free: pages that it has changed, and QEMU's own. The rest it shares with the file and with other VMs.
No state is shown while another program uses the VM's monitor.

Examples:
  mapram ps
  mapram ps --json | jq -r '.vms[].qmp'`,
    );
  },
  async run(_args, _options, { signal }) {
    const vms = await listVms({ signal });
    return { fields: { vms }, text: describe(vms) };
  },
};

function describe(vms: readonly ListedVm[]): string {
  if (vms.length === 0) return 'No VM that mapram has started, or is saving, is running.';
  return table(
    [
      ['QMP', 'process', 'state', 'age', 'own memory', 'file'],
      ...vms.map((vm) => [
        vm.qmp,
        String(vm.pid ?? '?'),
        describeState(vm),
        vm.ageMs === undefined ? '?' : formatDuration(Math.max(1000, Math.floor(vm.ageMs / 1000) * 1000)),
        vm.privateBytes === undefined ? '?' : formatSize(vm.privateBytes),
        vm.file ?? '',
      ]),
    ],
    '<><>><',
  );
}

function describeState({ runState, savingTo }: ListedVm): string {
  return savingTo === undefined ? (runState ?? '?') : `saving to ${savingTo}`;
}
