/**
 * Monitors on a chardev. QEMU 11.1 made them objects, and calls the option that it had before deprecated:
 *
 *     -mon chardev=C,mode=control,pretty=on      -object monitor-qmp,id=I,chardev=C,pretty=on
 *     -mon chardev=C                             -object monitor-hmp,id=I,chardev=C
 */
import { defined } from '../defined.js';
import { isAtLeast, type QemuRelease } from '../options/qemu-profile.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

export interface ChardevMonitor {
  readonly protocol: 'qmp' | 'hmp';
  /** Id of its chardev. */
  readonly chardev: string;
  /** Its own, which objects always have. */
  readonly id?: string;
  /** As it is written. */
  readonly pretty?: string;
}

const OBJECTS_SINCE: QemuRelease = [11, 1];
const OBJECT_TYPE = /^monitor-(qmp|hmp)$/;

/** The monitor that an option makes, in either form. */
export function chardevMonitorOf({ name, value }: CommandLineOption): ChardevMonitor | undefined {
  if (value === undefined) return undefined;
  if (name === 'mon') {
    const list = OptionList.parse(value, 'chardev');
    return monitorOf(list, list.get('mode') === 'control' ? 'qmp' : 'hmp');
  }
  if (name !== 'object') return undefined;
  const list = OptionList.parse(value, 'qom-type');
  const [, protocol] = OBJECT_TYPE.exec(list.get('qom-type') ?? '') ?? [];
  return protocol === undefined ? undefined : monitorOf(list, protocol as ChardevMonitor['protocol']);
}

function monitorOf(list: OptionList, protocol: ChardevMonitor['protocol']): ChardevMonitor | undefined {
  const chardev = list.get('chardev');
  if (chardev === undefined) return undefined;
  return { protocol, chardev, ...defined({ id: list.get('id'), pretty: list.get('pretty') }) };
}

/** The options with every such monitor in the form that a QEMU of this release knows. */
export function withMonitorsFor(
  release: QemuRelease,
  options: readonly CommandLineOption[],
): CommandLineOption[] {
  const objects = isAtLeast(release, OBJECTS_SINCE);
  return options.map((option) => {
    const monitor = chardevMonitorOf(option);
    if (monitor === undefined || objects === (option.name === 'object')) return option;
    return objects ? asObject(monitor) : asOption(monitor);
  });
}

function asObject({
  protocol,
  chardev,
  id = `monitor-${chardev}`,
  pretty,
}: ChardevMonitor): CommandLineOption {
  const kept = protocol === 'qmp' ? defined({ pretty }) : {};
  return { name: 'object', value: OptionList.of(`monitor-${protocol}`, { id, chardev, ...kept }).toString() };
}

function asOption({ protocol, chardev, id, pretty }: ChardevMonitor): CommandLineOption {
  const mode = protocol === 'qmp' ? { mode: 'control', ...defined({ pretty }) } : { mode: 'readline' };
  // Without the name of its first key, as every release reads it.
  return { name: 'mon', value: OptionList.of(chardev, { ...defined({ id }), ...mode }).toString() };
}
