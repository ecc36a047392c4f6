/**
 * Where records of saves under way lie: a folder that only this user may enter.
 *
 * ```
 * $XDG_RUNTIME_DIR/mapram        where that variable is set
 * /tmp/mapram-UID                else
 * /tmp/mapram-UID-XXXXXX         where another user has made that one: it cannot be used, nor removed from a sticky /tmp
 * ```
 */
import { constants, lstatSync, mkdtempSync, readdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { errorReason, MapramError } from '../../errors.js';
import { makeDirectories } from '../../io/file/make-directories.js';
import { readRegularFile } from '../../io/file/regular-file.js';
import { hasErrno } from '../../io/system-error.js';

/**
 * The folder for a new record.
 *
 * @param temporary replaceable in tests
 * @throws MapramError `IO` when it belongs to another user or cannot be made
 */
export function recordFolder(temporary = os.tmpdir()): string {
  const { XDG_RUNTIME_DIR } = process.env;
  if (XDG_RUNTIME_DIR) return runtimeFolder(XDG_RUNTIME_DIR);
  const usual = usualFolder(temporary);
  make(usual);
  if (isPrivate(usual)) return usual;
  return otherFolders(usual)[0] ?? createOther(usual);
}

/** All folders that may hold records of this user. @throws as `recordFolder` does */
export function recordFolders(temporary = os.tmpdir()): string[] {
  const folder = recordFolder(temporary);
  if (process.env.XDG_RUNTIME_DIR) return [folder];
  return [...new Set([folder, ...otherFolders(usualFolder(temporary))])];
}

function runtimeFolder(parent: string): string {
  const folder = path.join(parent, 'mapram');
  make(folder);
  if (isPrivate(folder)) return folder;
  throw new MapramError(
    'IO',
    `noting the save in ${folder}: it is not a private folder of this user; remove it, or set XDG_RUNTIME_DIR`,
    { path: folder },
  );
}

function usualFolder(temporary: string): string {
  return path.join(temporary, `mapram-${process.geteuid?.()}`);
}

/** Those that were made because another user has the usual one, in an order that stays. */
function otherFolders(usual: string): string[] {
  const prefix = `${path.basename(usual)}-`;
  return readdirSync(path.dirname(usual))
    .filter((name) => name.startsWith(prefix))
    .sort()
    .map((name) => path.join(path.dirname(usual), name))
    .filter(isPrivate);
}

function createOther(usual: string): string {
  try {
    return mkdtempSync(`${usual}-`);
  } catch (error) {
    throw cannotMake(usual, error);
  }
}

/** What is there already stays as it is, whatever it is. */
function make(folder: string): void {
  try {
    makeDirectories(folder, 0o700);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw cannotMake(folder, error);
  }
}

function cannotMake(folder: string, error: unknown): MapramError {
  return new MapramError(
    'IO',
    `noting the save in ${folder}: ${errorReason(error)}; set XDG_RUNTIME_DIR to a directory of this user`,
    { path: folder, cause: error },
  );
}

function isPrivate(folder: string): boolean {
  const status = lstatSync(folder, { throwIfNoEntry: false });
  return (
    status !== undefined &&
    status.uid === process.geteuid?.() &&
    (status.mode & 0o077) === 0 &&
    (status.mode & constants.S_IFMT) === constants.S_IFDIR
  );
}

/** What all records with names that end so say, locked or not. Files that are no such records are left out. */
export function readRecords<S extends v.GenericSchema>(
  suffix: string,
  schema: S,
): { path: string; record: v.InferOutput<S> }[] {
  return recordFolders().flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(suffix))
      .flatMap((name) => {
        const file = path.join(folder, name);
        const record = readRecord(file, schema);
        return record === undefined ? [] : [{ path: file, record }];
      }),
  );
}

/** A record may be removed, or written anew, while it is read. */
const MOST_READS = 3;
const MAX_RECORD_BYTES = 16 * 2 ** 20;

function readRecord<S extends v.GenericSchema>(file: string, schema: S): v.InferOutput<S> | undefined {
  for (let reads = 0; reads < MOST_READS; reads++) {
    try {
      const bytes = readRegularFile(file, MAX_RECORD_BYTES);
      if (bytes === undefined) return undefined;
      const { success, output } = v.safeParse(schema, JSON.parse(bytes.toString()));
      return success ? output : undefined;
    } catch (error) {
      if (!(error instanceof SyntaxError)) return undefined;
    }
  }
  return undefined;
}
