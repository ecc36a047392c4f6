/**
 * Mounts and unmounts FUSE file systems. Root calls mount(2); other users need `fusermount3`, which is setuid root and passes
 * the descriptor of /dev/fuse back over a socket (SCM_RIGHTS), as libfuse does it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';
import { native } from '../native.js';
import { receiveDescriptors, socketPair } from '../socket/unix-socket.js';
import { hasErrno } from '../system-error.js';
import { openFile, releaseFiles } from './open-file.js';

const DEVICE = '/dev/fuse';
const HELPER = 'fusermount3';
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MNT_DETACH = 2;
/** How long the helper may take. It only makes a few system calls. */
const HELPER_MS = 10_000;

/** Why no FUSE file system can be mounted here; undefined where one can. */
export function fuseProblem(): string | undefined {
  if (!existsSync(DEVICE)) return `${DEVICE} does not exist`;
  if (isRoot()) return undefined;
  try {
    accessSync(DEVICE, constants.R_OK | constants.W_OK);
  } catch {
    return `this user may not open ${DEVICE}`;
  }
  return helperPath() === undefined ? `${HELPER} is not installed (package fuse3)` : undefined;
}

/**
 * Mounts a read-only FUSE file system that this user may enter. Nothing answers its requests yet.
 *
 * @returns the descriptor through which the kernel sends requests; the file system ends when its last copy is closed
 * @throws MapramError `UNSUPPORTED` where FUSE is missing, `IO` where the mount is refused
 */
export async function mountFuse(directory: string, name: string): Promise<number> {
  const problem = fuseProblem();
  if (problem !== undefined) throw refused('UNSUPPORTED', directory, problem);
  try {
    return isRoot() ? mountAsRoot(directory, name) : await mountByHelper(directory, name);
  } catch (error) {
    if (error instanceof MapramError) throw error;
    const code = hasErrno(error, 'EPERM', 'ENODEV') ? 'UNSUPPORTED' : 'IO';
    throw refused(code, directory, errorReason(error), error);
  }
}

/**
 * Unmounts.
 *
 * @param how `idle`: only where no file of it is open or mapped; `detach`: at once, open files go with their last user
 * @returns false where it is in use
 * @throws the system error of umount2(2); `IO` where the helper refuses
 */
export async function unmountFuse(directory: string, how: 'idle' | 'detach'): Promise<boolean> {
  if (!isRoot()) return await unmountByHelper(directory, how);
  try {
    native().umount2(directory, how === 'detach' ? MNT_DETACH : 0);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EBUSY')) return false;
    // It is not mounted (any more).
    if (hasErrno(error, 'EINVAL')) return true;
    throw error;
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

function mountAsRoot(directory: string, name: string): number {
  const fd = openFile(DEVICE, constants.O_RDWR);
  try {
    const { mode } = statSync(directory);
    const rootMode = (mode & constants.S_IFMT).toString(8);
    native().mount(
      name,
      directory,
      'fuse.mapram',
      MS_RDONLY | MS_NOSUID | MS_NODEV,
      `fd=${fd},rootmode=${rootMode},user_id=0,group_id=0,default_permissions`,
    );
    return fd;
  } catch (error) {
    releaseFiles([fd]);
    throw error;
  }
}

async function mountByHelper(directory: string, name: string): Promise<number> {
  const [ours, theirs] = socketPair();
  try {
    // A comma separates options, a backslash protects it.
    const fsname = name.replaceAll(/[\\,]/g, '\\$&');
    const options = `ro,nosuid,nodev,default_permissions,fsname=${fsname},subtype=mapram`;
    const said = await runHelper(['-o', options, '--', directory], theirs);
    if (said !== undefined) throw refused('IO', directory, said);
    const { fds } = receiveDescriptors(ours, 1, 1);
    const [fd] = fds;
    if (fd === undefined) throw refused('IO', directory, `${HELPER} passed no descriptor`);
    return fd;
  } finally {
    releaseFiles([ours, theirs]);
  }
}

async function unmountByHelper(directory: string, how: 'idle' | 'detach'): Promise<boolean> {
  const said = await runHelper(['-u', ...(how === 'detach' ? ['-z'] : []), '--', directory]);
  if (said === undefined || /not (?:found|mounted)/i.test(said)) return true;
  if (/busy/i.test(said)) return false;
  throw new MapramError('IO', `unmounting ${directory}: ${said}`, { path: directory });
}

/** @returns what it says where it fails */
async function runHelper(args: string[], channel?: number): Promise<string | undefined> {
  const helper = helperPath();
  if (helper === undefined) return `${HELPER} is not installed (package fuse3)`;
  const child: ChildProcess = spawn(helper, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...(channel === undefined ? [] : [channel])],
    env: { ...process.env, LC_ALL: 'C', _FUSE_COMMFD: '3' },
    timeout: HELPER_MS,
  });
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-1000);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return code === 0 ? undefined : said.trim() || `${HELPER} ended with code ${code}`;
}

function helperPath(): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/bin'];
  return folders
    .filter((folder) => path.isAbsolute(folder))
    .map((folder) => path.join(folder, HELPER))
    .find((file) => existsSync(file));
}

function refused(code: 'UNSUPPORTED' | 'IO', directory: string, why: string, cause?: unknown): MapramError {
  return new MapramError(code, `mounting a file system at ${directory}: ${why}`, { path: directory, cause });
}
