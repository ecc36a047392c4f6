/** The machine protocol monitors of a command line. */
import { chardevMonitorOf } from './chardev-monitors.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

/** Socket paths of the QMP monitors that listen on Unix sockets, in the order of the options. */
export function qmpSockets(options: readonly CommandLineOption[]): string[] {
  const chardevs = controlChardevs(options);
  return options.flatMap(({ name, value }) => {
    if (value === undefined) return [];
    if (name === 'qmp' || name === 'qmp-pretty') {
      const list = OptionList.parse(value, 'address');
      const path = /^unix:(.+)$/.exec(list.get('address') ?? '')?.[1];
      return path === undefined || !list.has('server') ? [] : [path];
    }
    if (name !== 'chardev') return [];
    const list = OptionList.parse(value, 'backend');
    const path = list.get('path');
    return chardevs.has(list.get('id') ?? '') && list.has('server') && path !== undefined ? [path] : [];
  });
}

/** The options with one QMP monitor, at `socket`, in place of all others. */
export function withQmpSocket(options: readonly CommandLineOption[], socket: string): CommandLineOption[] {
  const chardevs = controlChardevs(options);
  const others = options.filter((option) => {
    const { name, value } = option;
    if (name === 'qmp' || name === 'qmp-pretty') return false;
    if (name === 'chardev' && value !== undefined)
      return !chardevs.has(OptionList.parse(value, 'backend').get('id') ?? '');
    return !chardevs.has(chardevMonitorOf(option)?.chardev ?? '');
  });
  return [...others, { name: 'qmp', value: `unix:${socket.replaceAll(',', ',,')},server=on,wait=off` }];
}

/** Ids of the chardevs behind QMP monitors. */
function controlChardevs(options: readonly CommandLineOption[]): Set<string> {
  return new Set(
    options.flatMap((option) => {
      const monitor = chardevMonitorOf(option);
      return monitor?.protocol === 'qmp' ? [monitor.chardev] : [];
    }),
  );
}
