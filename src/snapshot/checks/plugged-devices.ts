/** What is said of devices that were plugged in after a VM was started: its command line alone does not make the same VM. */
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { parseCommandLine, quoteForShell } from '../../launch/command-line.js';
import type { LaunchRecord } from '../../launch/launch-record.js';
import { OptionList } from '../../launch/option-list.js';

/** For whoever saves such a VM. */
export function pluggedWarning({
  plugged = [],
  missing = [],
}: Pick<LaunchRecord, 'plugged' | 'missing'>): string | undefined {
  if (plugged.length === 0) return undefined;
  if (missing.length > 0)
    return `devices were plugged in after the VM was started, and QEMU does not say how their back ends were made (${missing.join(', ')}): give "mapram resume" the whole command line after --; the devices are ${quoteForShell(plugged)}`;
  return `devices were plugged in after the VM was started: "mapram resume" adds them to its command line, a QEMU for "mapram restore" must be given ${quoteForShell(plugged)}`;
}

/** For whoever restores a file of such a VM: what the waiting QEMU is not seen to have. */
export async function missingPlugged(
  vm: QemuVm,
  { plugged = [] }: Pick<LaunchRecord, 'plugged'>,
): Promise<string | undefined> {
  if (plugged.length === 0) return undefined;
  const present = await vm.client.execute('qom-list', { path: '/machine/peripheral' });
  const lacks = parseCommandLine(plugged).some(({ name, value = '' }) => {
    const id = name === 'device' ? OptionList.parse(value, 'driver').get('id') : undefined;
    return id !== undefined && !present.some((device) => device.name === id);
  });
  return lacks
    ? `devices were plugged into the saved VM after its start; the waiting QEMU needs ${quoteForShell(plugged)}`
    : undefined;
}
