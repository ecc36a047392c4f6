/** Removes a saved VM with all that belongs to it, or the folder of clones that have ended: what `mapram remove` does. */

import { existsSync, readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { signal as abortSignal, assertOptions, path as filePath, optionsOf } from '../../checked-options.js';
import { errorReason, MapramError } from '../../errors.js';
import { unlinkFile } from '../../io/file/file-names.js';
import { syncDirectoryOf } from '../../io/file/file-sync.js';
import { isMappingOf, mappedFile, readProcessMaps } from '../../io/process/process-maps.js';
import { hasErrno } from '../../io/system-error.js';
import { FileSource } from '../../mapped-ram/byte-source.js';
import { findContainer } from '../../mapped-ram/container.js';
import { isStoreAddress } from '../../store/open-place.js';
import type { Bytes } from '../../units.js';
import { removeLeftOver } from '../files/left-over-parts.js';
import { runOperation } from '../files/operation.js';
import { offset } from '../files/option-kinds.js';
import { partPathOf } from '../files/target-file.js';
import { removeMade, takeAbandonedVms } from '../guard/vm-record.js';
import { prefetchRecordPath } from '../resume/prefetch.js';
import { folderOf, listVms } from './list-vms.js';

export interface RemoveOptions {
  /** A saved VM, or the folder of a clone that has ended, or of several. */
  file: string;
  /** Where the stream starts, for a file saved with `offset`. */
  offset?: number | undefined;
  signal?: AbortSignal | undefined;
}

const RemoveOptionsSchema = optionsOf<RemoveOptions>({ file: filePath, offset, signal: abortSignal });

export interface RemoveResult {
  /** Absolute paths of all that was removed. */
  removed: string[];
  /** What that took on the disk. */
  freedBytes: Bytes;
}

/**
 * @throws MapramError `BUSY` while a VM runs from the file, or in the folder; `FORMAT` for a file that is no saved VM; `USAGE` for anything
 *   else; nothing is removed then
 */
export async function removeSnapshot(options: RemoveOptions): Promise<RemoveResult> {
  assertOptions('removeSnapshot', RemoveOptionsSchema, options);
  return await runOperation(`removing ${options.file}`, options.file, options, remove);
}

async function remove(options: RemoveOptions): Promise<RemoveResult> {
  const { file } = options;
  if (isStoreAddress(file)) {
    throw new MapramError('USAGE', `removing ${file}: it is in a store; use "mapram store remove"`, {
      path: file,
    });
  }
  const status = statSync(file);
  const place = realpathSync(file);
  if (status.isDirectory()) return await removeFolders(file, place);
  await assertSavedVm(file, status, options);
  await assertNotInUse(file, place, status);
  const removed = [place, prefetchRecordPath(place)].filter((name) => existsSync(name));
  let freedBytes = removed.reduce((sum, name) => sum + statSync(name).blocks * 512, 0);
  const part = partPathOf(place);
  const partBytes = existsSync(part) ? statSync(part).blocks * 512 : 0;
  // The file goes last: what is left after a failure is still found by its name.
  for (const name of [...removed].reverse()) unlinkFile(name);
  if (removeLeftOver(part)) {
    removed.push(part);
    freedBytes += partBytes;
  }
  syncDirectoryOf(place);
  return { removed, freedBytes };
}

async function assertSavedVm(file: string, status: Stats, { offset }: RemoveOptions): Promise<void> {
  if (!status.isFile()) {
    throw new MapramError('USAGE', `removing ${file}: it is not a file; name a saved VM`, { path: file });
  }
  const handle = await open(file, 'r');
  try {
    await findContainer(await FileSource.of(handle, file), offset);
  } catch (cause) {
    if (!(cause instanceof MapramError) || cause.code !== 'FORMAT') throw cause;
    throw new MapramError('FORMAT', `removing ${file}: it is no saved VM; to remove it all the same use rm`, {
      path: file,
      cause,
    });
  } finally {
    await handle.close();
  }
}

/** A VM that runs from the file would lose what it has not read yet if it were saved or resumed again. */
async function assertNotInUse(file: string, place: string, { dev, ino }: Stats): Promise<void> {
  const vms = await listVms({ ask: false });
  const started = vms.find((vm) => {
    const found = vm.file === undefined ? undefined : statSync(vm.file, { throwIfNoEntry: false });
    return found?.dev === dev && found.ino === ino;
  });
  const pid = started?.pid ?? (await processWithMapping(place));
  if (pid === undefined) return;
  const which = started === undefined ? '' : ` (${started.qmp})`;
  const advice = started === undefined ? 'end it first' : `"mapram quit ${file}" ends it`;
  throw new MapramError(
    'BUSY',
    `removing ${file}: the VM of process ${pid}${which} runs from it; ${advice}`,
    {
      path: file,
    },
  );
}

/** Of any user's VM, as far as this process may look. */
async function processWithMapping(file: string): Promise<number | undefined> {
  const handle = await open(file, 'r');
  try {
    const mapped = mappedFile(handle.fd);
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .find((pid) => {
        try {
          return readProcessMaps(pid).some((mapping) => isMappingOf(mapping, mapped));
        } catch {
          return false;
        }
      });
  } finally {
    await handle.close();
  }
}

/** Folders of clones that have ended: only such as are on record, since a folder is removed with all that is in it. */
async function removeFolders(name: string, folder: string): Promise<RemoveResult> {
  const isMeant = (made: string) => made === folder || path.dirname(made) === folder;
  const running = (await listVms({ ask: false })).find((vm) => isMeant(folderOf(vm) ?? ''));
  if (running !== undefined) {
    throw new MapramError(
      'BUSY',
      `removing ${name}: the VM at ${running.qmp} runs in it; "mapram quit ${name}" ends it and removes it`,
      { path: name },
    );
  }
  const removed: string[] = [];
  let freedBytes = 0;
  for (const record of takeAbandonedVms()) {
    using held = record;
    for (const made of held.leftOvers().filter(isMeant)) {
      freedBytes += sizeOf(made);
      removeMade(made);
      removed.push(made);
    }
    held.dropEnded();
  }
  if (removed.length > 0) return { removed, freedBytes };
  throw new MapramError(
    'USAGE',
    `removing ${name}: it is a directory, and not one that mapram made for a clone; name a saved VM`,
    { path: name },
  );
}

function sizeOf(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce(
      (sum, { parentPath, name }) => sum + statSync(path.join(parentPath, name)).blocks * 512,
      0,
    );
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 0;
    throw new MapramError('IO', `reading ${folder}: ${errorReason(error)}`, { path: folder, cause: error });
  }
}
