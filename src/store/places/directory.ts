/** A store in a directory, local or of a network file system: `dir:PATH`. Each object is a file. */
import { randomBytes } from 'node:crypto';
import { constants, existsSync, mkdirSync, type Stats } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';
import { linkFile, renameFile, unlinkFile } from '../../io/file/file-names.js';
import { syncDirectoryOf } from '../../io/file/file-sync.js';
import { PRIVATE_FILE_MODE } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';
import { CONFIG_KEY, damaged } from '../format.js';
import type { GetOptions, ListedObject, Place } from '../place.js';

export class DirectoryPlace implements Place {
  readonly freesPacks = false;
  /** It has been seen to be a store. */
  #isStore = false;

  constructor(
    readonly address: string,
    private readonly folder: string,
  ) {}

  async get(key: string, { range, maximum }: GetOptions = {}): Promise<Buffer | undefined> {
    const file = this.#file(key);
    await using handle = (await openOrAbsent(file)) ?? (await this.#openAgain(file));
    if (handle === undefined) return undefined;
    if (key === CONFIG_KEY) this.#isStore = true;
    const { size } = await handle.stat();
    if (range === undefined && maximum !== undefined && size > maximum)
      throw damaged(file, `it has ${size} bytes, more than the ${maximum} that it may`);
    const { offset, length } = range ?? { offset: 0, length: size };
    if (offset + length > size)
      throw damaged(file, `it was cut short: it has ${size} bytes, ${offset + length} are needed`);
    return await readAt(handle, file, offset, length);
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const file = this.#file(key);
    const part = await this.#write(file, bytes);
    await this.#named(file, part, () => renameFile(part, file));
  }

  async create(key: string, bytes: Uint8Array): Promise<boolean> {
    const file = this.#file(key);
    const part = await this.#write(file, bytes);
    try {
      return await this.#named(file, part, () => {
        linkFile(part, file);
        unlinkFile(part);
      });
    } catch (error) {
      if (hasErrno((error as MapramError).cause, 'EEXIST')) return false;
      throw error;
    }
  }

  async size(key: string): Promise<number | undefined> {
    return (await this.#status(key))?.size;
  }

  async #status(key: string): Promise<Stats | undefined> {
    const file = this.#file(key);
    try {
      return await stat(file);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw failure('reading', file, error);
    }
  }

  async list(prefix: string): Promise<ListedObject[]> {
    const found: ListedObject[] = [];
    const visit = async (folder: string) => {
      for (const entry of await entriesOf(path.join(this.folder, folder))) {
        const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
        if (entry.isDirectory()) await visit(key);
        else if (key.startsWith(prefix) && entry.isFile()) {
          const status = await this.#status(key);
          // It may have been removed since.
          if (status !== undefined) found.push({ key, bytes: status.size, modifiedAt: status.mtimeMs });
        }
      }
    };
    await visit(prefix.replace(/\/?[^/]*$/, ''));
    return found;
  }

  async remove(key: string): Promise<void> {
    const file = this.#file(key);
    try {
      unlinkFile(file);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw failure('removing', file, error);
    }
  }

  /** A store that has lost its store.json does not lack an object: it has gone, or its file system is not mounted any more. */
  async #openAgain(file: string): Promise<FileHandle | undefined> {
    if (!this.#isStore) return undefined;
    // It may have come back since the first try.
    if (existsSync(this.#file(CONFIG_KEY))) return await openOrAbsent(file);
    throw new MapramError(
      'IO',
      `reading ${file}: ${this.folder} has no ${CONFIG_KEY}; is its file system mounted?`,
      { path: file },
    );
  }

  #file(key: string): string {
    return path.join(this.folder, ...key.split('/'));
  }

  /** Writes and syncs a file beside `file`, whose folder is made where it is missing. */
  async #write(file: string, bytes: Uint8Array): Promise<string> {
    const part = `${file}.part-${randomBytes(8).toString('hex')}`;
    try {
      mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      await using handle = await open(part, 'wx', PRIVATE_FILE_MODE);
      await handle.writeFile(bytes);
      await handle.sync();
      return part;
    } catch (error) {
      discard(part);
      throw failure('writing', file, error);
    }
  }

  async #named(file: string, part: string, name: () => void): Promise<true> {
    try {
      name();
      await syncDirectoryOf(file);
      return true;
    } catch (error) {
      discard(part);
      throw failure('writing', file, error);
    }
  }
}

async function openOrAbsent(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw failure('reading', file, error);
  }
}

async function readAt(handle: FileHandle, file: string, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await handle.read(bytes, at, length - at, offset + at).catch((error: Error) => {
      throw failure('reading', file, error);
    });
    if (bytesRead === 0) throw damaged(file, `it ends at ${offset + at}`);
    at += bytesRead;
  }
  return bytes;
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw failure('listing', folder, error);
  }
}

function discard(part: string): void {
  try {
    unlinkFile(part);
  } catch {
    // It was not made, or has its name already.
  }
}

function failure(doing: string, file: string, cause: unknown): MapramError {
  const full = hasErrno(cause, 'ENOSPC', 'EDQUOT');
  return new MapramError(full ? 'NO_SPACE' : 'IO', `${doing} ${file}: ${errorReason(cause)}`, {
    path: file,
    cause,
  });
}
