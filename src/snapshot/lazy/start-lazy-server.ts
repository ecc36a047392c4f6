/** Starts the server of a snapshot, and a guard that starts it again whenever it is killed. */
import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { errorReason, MapramError } from '../../errors.js';
import { mountFuse, unmountFuse } from '../../io/file/fuse-mount.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';
import { workerScript } from '../../io/worker-script.js';
import type { StoredFile } from '../../store/snapshot-root.js';
import { CONFIG_FD, DEVICE_FD, type LazyConfig, passConfig } from './lazy-config.js';
import { lazyLayout, readStatus } from './lazy-layout.js';
import { makeLazyFolders } from './lazy-server.js';

/** Starts of one server: one that dies at once, again and again, is given up. */
const MOST_STARTS = 1000;
/**
 * The guard is a shell that holds the descriptor of the file system: that stays while no server runs, and processes that wait in a page
 * fault go on waiting. A server that was killed has a status of 128 and more.
 */
const GUARD = `trap "" HUP INT TERM; n=0
while [ $n -lt ${MOST_STARTS} ]; do
  "$@"; s=$?
  [ $s -ge 128 ] || exit $s
  n=$((n+1)); sleep 0.05
done`;
/** Blocking reads of the device and of the file, side by side. */
const POOL_THREADS = '8';

/**
 * The path of the snapshot's state as VMs are to map it. The caller holds the lock of the snapshot's folder.
 *
 * @param state the first file of the snapshot
 * @throws MapramError `UNSUPPORTED` where FUSE is missing, `IO`, `FORMAT`, `KEY`: what the server found
 */
export async function lazyFile(config: LazyConfig, state: StoredFile): Promise<string> {
  const layout = lazyLayout(config.folder);
  const file = path.join(layout.mount, state.name);
  if (await isServed(file, layout.mount)) return file;
  makeLazyFolders(config.folder);
  const device = await mountFuse(layout.mount, `${config.place}/${config.name}@${config.id}`);
  const passed = passConfig(config);
  try {
    startGuard(device, passed);
  } finally {
    releaseFiles([device, passed]);
  }
  try {
    await stat(file);
    return file;
  } catch (cause) {
    const reason = readStatus(layout)?.problem ?? errorReason(cause);
    throw new MapramError('IO', `serving ${config.place}/${config.name}@${config.id}: ${reason}`, { cause });
  }
}

function startGuard(device: number, config: number): void {
  const stdio: ('ignore' | number)[] = ['ignore', 'ignore', 'ignore'];
  stdio[DEVICE_FD] = device;
  stdio[CONFIG_FD] = config;
  const script = fileURLToPath(workerScript('lazy-server-process', import.meta.url));
  const guard = spawn('/bin/sh', ['-c', GUARD, 'mapram-lazy-guard', process.execPath, script], {
    detached: true,
    stdio,
    cwd: '/',
    env: { ...process.env, UV_THREADPOOL_SIZE: POOL_THREADS },
  });
  guard.on('error', () => {});
  guard.unref();
}

/** Whether a server answers for this file. What one has left that died with its guard is cleared away. */
async function isServed(file: string, mount: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    // The connection was cut: the mount point is of no use to anyone.
    if (hasErrno(error, 'ENOTCONN', 'ECONNABORTED')) await unmountFuse(mount, 'detach');
    return false;
  }
}
