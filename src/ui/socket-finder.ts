/**
 * Where monitors of VMs may be: Unix sockets in the places that the user named, and on the command lines of the QEMUs
 * that run on this machine.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import { parseCommandLine } from '../launch/command-line.js';
import { OptionList } from '../launch/option-list.js';
import { qmpSockets } from '../launch/qmp-sockets.js';
import { MAX_SOCKET_PATH_BYTES } from '../qmp/socket-address.js';

export interface FoundSocket {
  /** Absolute. */
  readonly path: string;
  /** The QEMU on whose command line it stands as a QMP monitor. */
  readonly pid?: number;
}

/** More sockets than this in one place are not monitors of VMs. */
const MAX_SOCKETS_PER_PLACE = 256;

/**
 * @param places sockets, directories, or paths whose last part has `*` or `?`; what is not there is passed over
 * @param everywhere whether monitors of all running QEMUs are wanted, or only those in `places`
 */
export function findSockets(places: readonly string[], everywhere: boolean): FoundSocket[] {
  const found = new Map<string, FoundSocket>();
  const monitors = new Map<string, FoundSocket>();
  /** Sockets of QEMUs for other purposes, such as serial ports: connecting would take them from their user. */
  const others = new Set<string>();
  for (const { pid, monitors: paths, sockets } of runningQemus()) {
    for (const socket of sockets) others.add(socket);
    for (const socket of paths) if (isSocket(socket)) monitors.set(socket, { path: socket, pid });
  }
  if (everywhere) for (const [socket, monitor] of monitors) found.set(socket, monitor);
  for (const socket of places.flatMap(socketsAt)) {
    const monitor = monitors.get(socket);
    if (monitor !== undefined || !others.has(socket)) found.set(socket, monitor ?? { path: socket });
  }
  return [...found.values()].filter(({ path: name }) => Buffer.byteLength(name) <= MAX_SOCKET_PATH_BYTES);
}

function socketsAt(place: string): string[] {
  const absolute = path.resolve(place);
  const last = path.basename(absolute);
  if (/[*?]/.test(last) && !isSocket(absolute)) {
    const pattern = globPattern(last);
    return socketsIn(path.dirname(absolute)).filter((socket) => pattern.test(path.basename(socket)));
  }
  return isSocket(absolute) ? [absolute] : socketsIn(absolute);
}

function socketsIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isSocket())
      .slice(0, MAX_SOCKETS_PER_PLACE)
      .map((entry) => path.join(directory, entry.name));
  } catch {
    return [];
  }
}

/** `*` is any run of characters, `?` any one; a leading dot has to be written. */
export function globPattern(glob: string): RegExp {
  const body = glob
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${glob.startsWith('.') ? '' : '(?!\\.)'}${body}$`, 's');
}

function isSocket(name: string): boolean {
  try {
    return statSync(name).isSocket();
  } catch {
    return false;
  }
}

/** A name that stays the same as long as it is the same socket: one that QEMU made anew is another one. */
export function socketIdentity(name: string): string {
  try {
    const { dev, ino, ctimeMs } = lstatSync(name);
    return `${dev}:${ino}:${ctimeMs}`;
  } catch {
    return 'none';
  }
}

interface RunningQemu {
  readonly pid: number;
  /** Its QMP sockets and all its sockets, absolute. */
  readonly monitors: readonly string[];
  readonly sockets: readonly string[];
}

function runningQemus(): RunningQemu[] {
  let names: string[];
  try {
    names = readdirSync('/proc');
  } catch {
    // Not Linux.
    return [];
  }
  return names.filter((name) => /^\d+$/.test(name)).flatMap((name) => lookAtProcess(Number(name)));
}

function lookAtProcess(pid: number): RunningQemu[] {
  try {
    const [program, ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    if (program === undefined || !/^(qemu-system-\w+|qemu-kvm|kvm)$/.test(path.basename(program))) return [];
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    const options = parseCommandLine(args);
    const absolute = (names: readonly string[]) => names.map((name) => path.resolve(cwd, name));
    const sockets = options.flatMap(({ value }) => (value === undefined ? [] : socketPath(value)));
    return [{ pid, monitors: absolute(qmpSockets(options)), sockets: absolute(sockets) }];
  } catch {
    // Gone in the meantime, or of another user.
    return [];
  }
}

/** The path in `unix:PATH,…` and in options that have one. */
function socketPath(value: string): string[] {
  const list = OptionList.parse(value, 'address');
  const unix = /^unix:(.+)$/.exec(list.get('address') ?? '')?.[1];
  return [unix, list.get('path')].filter((name) => name !== undefined);
}
