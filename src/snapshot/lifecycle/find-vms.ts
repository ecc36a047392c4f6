/** From what a user calls a VM to the VMs that are meant. */
import { type Stats, statSync } from 'node:fs';
import path from 'node:path';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { hasErrno } from '../../io/system-error.js';
import { parseSocketAddress } from '../../qmp/socket-address.js';
import { folderOf, type ListedVm, listVms } from './list-vms.js';

/**
 * The VMs that `name` means: a QMP socket (of any QEMU), `tcp:HOST:PORT`, the process id of a VM that `listVms` shows, the folder of a clone or
 * of several, or the file from which they were started.
 *
 * @param doing for messages: `stopping`
 * @throws MapramError `USAGE` for what is no VM
 */
export async function findVms(doing: string, name: string, signal?: AbortSignal): Promise<ListedVm[]> {
  const vms = await listVms({ ask: false, ...defined({ signal }) });
  if (/^\d+$/.test(name))
    return atLeastOne(
      doing,
      name,
      vms.filter(({ pid }) => pid === Number(name)),
    );
  const address = parseSocketAddress(name);
  if (!('path' in address)) return [vms.find(({ qmp }) => qmp === name) ?? { qmp: name }];
  const place = path.resolve(address.path);
  const bySocket = vms.filter(({ qmp }) => qmp === place);
  if (bySocket.length > 0) return bySocket;
  const status = statusOf(doing, address.path);
  if (status === undefined) return atLeastOne(doing, name, []);
  if (status.isSocket()) return [vms.find(({ qmp }) => isSame(qmp, status)) ?? { qmp: place }];
  if (status.isDirectory())
    return atLeastOne(
      doing,
      name,
      vms.filter((vm) => isIn(vm, status)),
    );
  return atLeastOne(
    doing,
    name,
    vms.filter(({ file }) => file !== undefined && isSame(file, status)),
  );
}

function atLeastOne(doing: string, name: string, vms: ListedVm[]): ListedVm[] {
  if (vms.length > 0) return vms;
  throw new MapramError(
    'USAGE',
    `${doing} ${name}: it is no QMP socket, and no VM that mapram has started runs from it or in it; "mapram ps" lists them`,
    { path: name },
  );
}

/** In the folder of a clone, or in one that holds the folders of several. */
function isIn(vm: ListedVm, folder: Stats): boolean {
  const own = folderOf(vm);
  return own !== undefined && (isSame(own, folder) || isSame(path.dirname(own), folder));
}

function isSame(file: string, { dev, ino }: Stats): boolean {
  const found = statSync(file, { throwIfNoEntry: false });
  return found?.dev === dev && found.ino === ino;
}

function statusOf(doing: string, file: string): Stats | undefined {
  try {
    return statSync(file);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw new MapramError('IO', `${doing} ${file}: ${errorReason(error)}`, { path: file, cause: error });
  }
}
