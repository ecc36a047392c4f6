/**
 * Gives a clone places of its own for everything that two QEMUs cannot share:
 *
 *     sockets, logs, pid file     the same name in the clone's folder
 *     QMP                         qmp.sock there
 *     TCP ports, VNC, SPICE       a Unix socket there instead
 *     standard input and output   a file there instead
 *     gdb, forwarded ports        left out
 */
import path from 'node:path';
import type { CommandLineOption } from './command-line.js';
import { type Endpoint, type NewEndpoint, replaceEndpoints } from './endpoints.js';
import { OptionList } from './option-list.js';
import { withQmpSocket } from './qmp-sockets.js';

export interface CloneCommandLine {
  options: CommandLineOption[];
  /** Absolute path. */
  qmp: string;
  /** What clones do without, in people's words; the same for every clone. */
  warnings: string[];
}

const QMP_NAME = 'qmp.sock';

/** @param folder absolute path of a folder that is the clone's alone */
export function cloneCommandLine(options: readonly CommandLineOption[], folder: string): CloneCommandLine {
  const warnings: string[] = [];
  const qmp = path.join(folder, QMP_NAME);
  const kept = withQmpSocket(options, qmp).filter(({ name }) => {
    if (name !== 'gdb' && name !== 's') return true;
    warnings.push('clones are started without -gdb: they cannot share its port');
    return false;
  });
  const names = new Set([QMP_NAME]);
  const place = (endpoint: Endpoint): NewEndpoint | undefined => {
    if (endpoint.path === qmp) return undefined;
    const kind = endpoint.kind === 'file' || endpoint.kind === 'terminal' ? 'file' : 'socket';
    return { kind, path: path.join(folder, freeName(names, nameFor(endpoint))) };
  };
  const moved = replaceEndpoints(kept, place).map((option) => withoutForwarding(option, warnings));
  return { options: moved, qmp, warnings: [...new Set(warnings)] };
}

function nameFor({ kind, user, path: former }: Endpoint): string {
  if (former !== undefined) return path.basename(former);
  const name = user.replace(/^chardev /, '').replaceAll(/[^\w.-]/g, '_');
  return kind === 'terminal' ? `${name}.log` : `${name}.sock`;
}

function freeName(taken: Set<string>, wanted: string): string {
  const { name, ext } = path.parse(wanted);
  let free = wanted;
  for (let n = 2; taken.has(free); n++) free = `${name}-${n}${ext}`;
  taken.add(free);
  return free;
}

/** The ports of the host that `-netdev user` forwards to the guest can be taken once. */
function withoutForwarding(option: CommandLineOption, warnings: string[]): CommandLineOption {
  const { name, value } = option;
  if (value === undefined || !['netdev', 'nic', 'net'].includes(name)) return option;
  const list = OptionList.parse(value, 'type');
  const forwarding = list.keys.filter((key) => /^hostfwd(\.|$)/.test(key));
  if (forwarding.length === 0) return option;
  warnings.push('clones are started without hostfwd: they cannot share the ports of the host');
  for (const key of new Set(forwarding)) list.delete(key);
  return { name, value: list.toString() };
}
