/** The machine protocol monitors of a command line. */
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
  const others = options.filter(({ name, value }) => {
    if (name === 'qmp' || name === 'qmp-pretty') return false;
    if (value === undefined) return true;
    if (name === 'mon') return !chardevs.has(OptionList.parse(value, 'chardev').get('chardev') ?? '');
    if (name === 'chardev') return !chardevs.has(OptionList.parse(value, 'backend').get('id') ?? '');
    return true;
  });
  return [...others, { name: 'qmp', value: `unix:${socket.replaceAll(',', ',,')},server=on,wait=off` }];
}

/** Ids of the chardevs behind `-mon …,mode=control`. */
function controlChardevs(options: readonly CommandLineOption[]): Set<string> {
  const ids = new Set<string>();
  for (const { name, value } of options) {
    if (name !== 'mon' || value === undefined) continue;
    const list = OptionList.parse(value, 'chardev');
    const id = list.get('chardev');
    if (list.get('mode') === 'control' && id !== undefined) ids.add(id);
  }
  return ids;
}
