/**
 * Where a command line makes QEMU listen or write: sockets, log files, the pid file. Two QEMUs cannot share these, and
 * QEMU takes over the path of a socket without asking whether somebody listens there.
 */
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

export interface Endpoint {
  /** `tcp` has no path; `terminal` is standard input and output. */
  kind: 'socket' | 'file' | 'tcp' | 'terminal';
  /** What uses it, for names and messages: `serial`, `qmp`, `chardev ID`, … */
  user: string;
  path?: string;
}

/** What an endpoint becomes: a listening Unix socket or a file. */
export interface NewEndpoint {
  kind: 'socket' | 'file';
  path: string;
}

/** Options that take a character device in its short form: `unix:PATH,server=on`, `file:PATH`, `stdio`, … */
const SHORT_FORMS = new Set(['serial', 'parallel', 'monitor', 'qmp', 'qmp-pretty', 'debugcon', 'gdb']);
/** Options whose argument is the path of a file that QEMU writes. */
const PATH_OPTIONS = new Set(['pidfile', 'D']);

/** The endpoints of `options`, in their order. */
export function endpointsOf(options: readonly CommandLineOption[]): Endpoint[] {
  const endpoints: Endpoint[] = [];
  replaceEndpoints(options, (endpoint) => {
    endpoints.push(endpoint);
    return undefined;
  });
  return endpoints;
}

/** The options with each endpoint replaced by what `replace` gives; left alone where that is undefined. */
export function replaceEndpoints(
  options: readonly CommandLineOption[],
  replace: (endpoint: Endpoint) => NewEndpoint | undefined,
): CommandLineOption[] {
  return options.map((option) => {
    const { name, value } = option;
    if (value === undefined) return option;
    if (PATH_OPTIONS.has(name)) {
      const user = name === 'D' ? 'log' : name;
      return { name, value: replace({ kind: 'file', user, path: value })?.path ?? value };
    }
    if (SHORT_FORMS.has(name)) return { name, value: replaceShortForm(name, value, replace) };
    if (name === 'chardev') return { name, value: replaceChardev(value, replace) };
    if (name === 'vnc') return { name, value: replaceVnc(value, replace) };
    if (name === 'spice') return { name, value: replaceSpice(value, replace) };
    if (name === 'netdev' || name === 'nic') return { name, value: replaceNetdev(value, replace) };
    return option;
  });
}

/** A socket of another program, to which QEMU connects when it starts. */
export interface ClientSocket {
  /** As in `Endpoint`. */
  user: string;
  /** Where it connects to. */
  address: string;
  /** Whether a TPM is behind it. */
  isTpm: boolean;
}

export function clientSocketsOf(options: readonly CommandLineOption[]): ClientSocket[] {
  const tpms = new Set(
    options.flatMap(({ name, value = '' }) =>
      name === 'tpmdev' ? (OptionList.parse(value, 'type').get('chardev') ?? []) : [],
    ),
  );
  return options.flatMap(({ name, value }) => {
    if (value === undefined) return [];
    if (name === 'chardev') {
      const list = OptionList.parse(value, 'backend');
      if (list.get('backend') !== 'socket' || isOn(list.get('server'))) return [];
      const id = list.get('id') ?? '';
      const address = list.get('path') ?? `${list.get('host') ?? ''}:${list.get('port') ?? ''}`;
      return [{ user: `chardev ${id}`, address, isTpm: tpms.has(id) }];
    }
    if (!SHORT_FORMS.has(name)) return [];
    const list = OptionList.parse(value.replace(/^mon:/, ''), 'address');
    const [scheme, ...rest] = (list.get('address') ?? '').split(':');
    const connects = /^(unix|tcp|telnet|tn3270|websocket)$/.test(scheme ?? '') && !isOn(list.get('server'));
    return connects ? [{ user: name, address: rest.join(':'), isTpm: false }] : [];
  });
}

/** Listening sockets do not wait for a client, so that QEMU starts. */
export function withoutWaiting(options: readonly CommandLineOption[]): CommandLineOption[] {
  return options.map(({ name, value }) => {
    if (value === undefined) return { name };
    if (name !== 'chardev' && !SHORT_FORMS.has(name)) return { name, value };
    const list = OptionList.parse(value, 'backend');
    const waits = isOn(list.get('server')) && list.get('wait') !== 'off';
    return { name, value: waits ? list.set('wait', 'off').toString() : value };
  });
}

function replaceShortForm(
  name: string,
  value: string,
  replace: (endpoint: Endpoint) => NewEndpoint | undefined,
): string {
  const mux = value.startsWith('mon:') ? 'mon:' : '';
  const list = OptionList.parse(value.slice(mux.length), 'address');
  const address = list.get('address') ?? '';
  const [scheme = '', ...rest] = address.split(':');
  const path = rest.join(':');
  let endpoint: Endpoint | undefined;
  if (address === 'stdio') endpoint = { kind: 'terminal', user: name };
  else if (scheme === 'file' || scheme === 'pipe') endpoint = { kind: 'file', user: name, path };
  else if (isOn(list.get('server'))) {
    if (scheme === 'unix') endpoint = { kind: 'socket', user: name, path };
    else if (/^(tcp|telnet|tn3270|websocket)$/.test(scheme)) endpoint = { kind: 'tcp', user: name };
  }
  const replaced = endpoint && replace(endpoint);
  if (replaced === undefined) return value;
  return mux + shortForm(replaced);
}

function shortForm({ kind, path }: NewEndpoint): string {
  const escaped = path.replaceAll(',', ',,');
  return kind === 'file' ? `file:${escaped}` : `unix:${escaped},server=on,wait=off`;
}

function replaceChardev(value: string, replace: (endpoint: Endpoint) => NewEndpoint | undefined): string {
  const list = OptionList.parse(value, 'backend');
  const id = list.get('id') ?? '';
  const user = `chardev ${id}`;
  const log = list.get('logfile');
  const movedLog = log === undefined ? undefined : replace({ kind: 'file', user, path: log });
  if (movedLog !== undefined) list.set('logfile', movedLog.path);
  const path = list.get('path');
  let endpoint: Endpoint | undefined;
  switch (list.get('backend')) {
    case 'file':
    case 'pipe':
      endpoint = path === undefined ? undefined : { kind: 'file', user, path };
      break;
    case 'stdio':
      endpoint = { kind: 'terminal', user };
      break;
    case 'socket':
      if (!isOn(list.get('server'))) break;
      endpoint = path === undefined ? { kind: 'tcp', user } : { kind: 'socket', user, path };
      break;
  }
  const replaced = endpoint && replace(endpoint);
  if (replaced === undefined) return list.toString();
  const form = OptionList.of(replaced.kind, { id, path: replaced.path });
  if (replaced.kind === 'socket') form.set('server', 'on').set('wait', 'off');
  for (const key of ['mux', 'logfile', 'logappend']) {
    const kept = list.get(key);
    if (kept !== undefined) form.set(key, kept);
  }
  return form.toString();
}

function replaceVnc(value: string, replace: (endpoint: Endpoint) => NewEndpoint | undefined): string {
  const list = OptionList.parse(value, 'display');
  const display = list.get('display') ?? '';
  const unix = /^unix:(.*)$/.exec(display);
  if (display === 'none') return value;
  const endpoint: Endpoint =
    unix === null ? { kind: 'tcp', user: 'vnc' } : { kind: 'socket', user: 'vnc', path: unix[1] ?? '' };
  const replaced = replace(endpoint);
  return replaced === undefined
    ? value
    : list.delete('to').set('display', `unix:${replaced.path}`).toString();
}

function replaceSpice(value: string, replace: (endpoint: Endpoint) => NewEndpoint | undefined): string {
  const list = OptionList.parse(value, 'port');
  const addr = list.get('addr');
  const endpoint: Endpoint =
    isOn(list.get('unix')) && addr !== undefined
      ? { kind: 'socket', user: 'spice', path: addr }
      : { kind: 'tcp', user: 'spice' };
  const replaced = replace(endpoint);
  if (replaced === undefined) return value;
  return list.delete('port').delete('tls-port').set('unix', 'on').set('addr', replaced.path).toString();
}

/** A network between VMs over a Unix socket: `stream` as its server, and `dgram`, which always creates its own. */
function replaceNetdev(value: string, replace: (endpoint: Endpoint) => NewEndpoint | undefined): string {
  const list = OptionList.parse(value, 'type');
  const type = list.get('type');
  const address =
    type === 'dgram' ? 'local' : type === 'stream' && isOn(list.get('server')) ? 'addr' : undefined;
  if (address === undefined || list.get(`${address}.type`) !== 'unix') return value;
  const path = list.get(`${address}.path`);
  const replaced = path === undefined ? undefined : replace({ kind: 'socket', user: 'netdev', path });
  return replaced === undefined ? value : list.set(`${address}.path`, replaced.path).toString();
}

/** The spellings of QEMU's booleans. */
function isOn(value: string | undefined): boolean {
  return value === 'on' || value === 'yes' || value === 'true' || value === 'y';
}
