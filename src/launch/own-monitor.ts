/**
 * The monitor through which mapram controls a QEMU that it starts: a connection that the process inherits, so there is
 * no socket to wait for, to name or to leave behind.
 */
import { chardevMonitorOf } from './chardev-monitors.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

/** Descriptor number of the monitor in the new process. */
export const OWN_MONITOR_FD = 3;

const ID = 'mapram-monitor';

export function ownMonitor(): CommandLineOption[] {
  return [
    { name: 'chardev', value: `socket,id=${ID},fd=${OWN_MONITOR_FD}` },
    { name: 'mon', value: `chardev=${ID},mode=control` },
  ];
}

/** The options without such a monitor: its descriptor means nothing to a later process. */
export function withoutOwnMonitor(options: readonly CommandLineOption[]): CommandLineOption[] {
  return options.filter((option) => {
    const { name, value } = option;
    if (name === 'chardev' && value !== undefined) return OptionList.parse(value, 'backend').get('id') !== ID;
    return chardevMonitorOf(option)?.chardev !== ID;
  });
}
