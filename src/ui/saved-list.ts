/** The saved VMs in the user's directories, each with what a quick look inside tells. */

import { constants, lstatSync, readdirSync, realpathSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { type Manifest, parseManifest } from '../manifest/manifest.js';
import { FileSource } from '../mapped-ram/byte-source.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import { targetOfPart } from '../snapshot/files/target-file.js';
import { type RemoveResult, removeSnapshot } from '../snapshot/lifecycle/remove-snapshot.js';
import { STREAM_MAGIC, STREAM_VERSION } from '../stream/format.js';
import { libvirtMark } from '../stream/libvirt-header.js';
import type { Directories } from './directories.js';
import { RequestError } from './reply.js';

/** What the page shows of a file. */
export interface SavedEntry {
  /** Absolute. */
  readonly file: string;
  readonly directory: string;
  readonly name: string;
  readonly bytes: number;
  /** What it takes on the disk. */
  readonly allocatedBytes: number;
  /** ISO 8601. */
  readonly modifiedAt: string;
  /**
   * - `complete`: the whole stream is there
   * - `incomplete`: a save that did not finish, or a file that was cut short
   * - `unreadable`: it begins like a saved VM, and cannot be opened: damaged, or in a form without mapped-ram
   */
  readonly state: 'complete' | 'incomplete' | 'unreadable';
  /** `stream`: a plain migration stream, which can be converted. Absent for what cannot be told. */
  readonly form?: 'mapped-ram' | 'stream';
  /** What the last verification from the page has found, unless the file has changed since. */
  readonly checked?: SavedCheck;
  /** What is wrong, in people's words. */
  readonly problems: readonly string[];
  readonly image?: SavedImage;
  readonly manifest?: SavedManifest;
}

export interface SavedCheck {
  readonly ok: boolean;
  /** ISO 8601. */
  readonly at: string;
  /** The first one. */
  readonly problem?: string;
}

export interface SavedImage {
  readonly container: 'qemu' | 'libvirt';
  readonly machine: string;
  readonly capabilities: readonly string[];
  readonly pageSize: number;
  readonly ramBytes: number;
  readonly normalPages: number;
  readonly blocks: readonly { readonly idstr: string; readonly usedLength: number }[];
  readonly devices: number;
}

/** What mapram noted when it saved. */
export interface SavedManifest {
  readonly id: string;
  readonly createdAt: string;
  readonly qemu?: string;
  readonly runState: string;
  /** Algorithm of the checksums. */
  readonly checksums?: string;
  readonly signed: boolean;
  /** Whether the file says how the VM was started, which resuming needs. */
  readonly launch: boolean;
}

/** Files looked at in one directory. */
const MAX_FILES = 5000;
/** Files opened at the same time. */
const OPENED_AT_ONCE = 16;

interface Known {
  readonly stamp: string;
  readonly entry: SavedEntry | undefined;
}

export class SavedList {
  /** What was found in a file that has not changed since; undefined for a file that is no saved VM. */
  readonly #known = new Map<string, Known>();
  #entries: SavedEntry[] = [];
  #refreshing: Promise<void> | undefined;

  constructor(
    private readonly directories: Directories,
    private readonly onChange: () => void,
  ) {}

  get entries(): readonly SavedEntry[] {
    return this.#entries;
  }

  /** @throws RequestError 404 for a file that is not in the list: the page cannot make mapram open anything else */
  entry(file: string): SavedEntry {
    const entry = this.#entries.find((candidate) => candidate.file === file);
    if (entry === undefined) throw new RequestError(404, `there is no saved VM ${file} here`);
    return entry;
  }

  /** Looks at the directories again. Only files that have changed are opened. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Stands for a file as it is now; undefined where there is none. */
  stamp(file: string): string | undefined {
    const found = this.#locate(file);
    return found === undefined ? undefined : stampOf(found.stats);
  }

  /**
   * Notes what a verification has found.
   *
   * @param stamp of the file before it was read: were it another one by now, nothing would be noted
   */
  noteCheck(file: string, stamp: string | undefined, checked: SavedCheck): void {
    const known = this.#known.get(file);
    if (known?.entry === undefined || known.stamp !== stamp || this.stamp(file) !== stamp) return;
    this.#known.set(file, { stamp, entry: { ...known.entry, checked } });
    this.#show(this.#entries.map((entry) => (entry.file === file ? { ...entry, checked } : entry)));
  }

  /** Deletes a file of the list. @throws MapramError `BUSY` while a VM runs from it */
  async remove(file: string): Promise<RemoveResult> {
    const removed = await removeSnapshot({ file: this.entry(file).file });
    await this.refresh();
    return removed;
  }

  async #refresh(): Promise<void> {
    const places = this.directories.paths.flatMap((directory) => {
      const { files, omitted } = filesIn(directory);
      this.directories.noteOmitted(directory, omitted);
      return files.map((file) => ({ directory, file }));
    });
    const found: (SavedEntry | undefined)[] = [];
    let next = 0;
    const work = async () => {
      for (let index = next++; index < places.length; index = next++) {
        const { directory, file } = places[index] as (typeof places)[number];
        found[index] = await this.#look(directory, file);
      }
    };
    await Promise.all(Array.from({ length: OPENED_AT_ONCE }, work));
    const seen = new Set(places.map(({ file }) => file));
    for (const file of this.#known.keys()) if (!seen.has(file)) this.#known.delete(file);
    this.#show(found.filter((entry) => entry !== undefined));
  }

  #show(entries: SavedEntry[]): void {
    if (JSON.stringify(entries) === JSON.stringify(this.#entries)) return;
    this.#entries = entries;
    this.onChange();
  }

  async #look(directory: string, file: string): Promise<SavedEntry | undefined> {
    const found = this.#locate(file);
    if (found === undefined) return undefined;
    const { target, stats } = found;
    const stamp = stampOf(stats);
    const known = this.#known.get(file);
    if (known?.stamp === stamp) return known.entry;
    const entry = await lookInside(directory, file, target, stats);
    this.#known.set(file, { stamp, entry });
    return entry;
  }

  /** Where a file is, itself no link; undefined for what is not opened: everything but regular files inside the directories. */
  #locate(file: string): { target: string; stats: Stats } | undefined {
    try {
      const target = lstatSync(file).isSymbolicLink() ? realpathSync(file) : file;
      if (target !== file && this.directories.of(target) === undefined) return undefined;
      const stats = lstatSync(target);
      // Files of /proc have no size, and reading some of them waits, or takes what they hold from others.
      return stats.isFile() && stats.size > 0 ? { target, stats } : undefined;
    } catch {
      return undefined;
    }
  }
}

/** A file that has not changed in between has the same. */
function stampOf({ dev, ino, size, blocks, mtimeMs, ctimeMs }: Stats): string {
  return [dev, ino, size, blocks, mtimeMs, ctimeMs].join(':');
}

/** Files being written under another name are left out: their operation shows them. */
function filesIn(directory: string): { files: string[]; omitted: number } {
  try {
    const files = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile() || entry.isSymbolicLink())
      .map((entry) => path.join(directory, entry.name))
      .filter((file) => targetOfPart(file) === undefined)
      .sort();
    return { files: files.slice(0, MAX_FILES), omitted: Math.max(0, files.length - MAX_FILES) };
  } catch {
    // Removed in the meantime, or not to be read any more.
    return { files: [], omitted: 0 };
  }
}

async function lookInside(
  directory: string,
  file: string,
  target: string,
  stats: Stats,
): Promise<SavedEntry | undefined> {
  const basis = {
    file,
    directory,
    name: path.basename(file),
    bytes: stats.size,
    allocatedBytes: stats.blocks * 512,
    modifiedAt: isoTime(stats.mtimeMs),
  };
  const handle = await openFound(target, stats);
  if (handle === undefined) return undefined;
  await using _ = handle;
  try {
    await using image = await MappedRamImage.open(await FileSource.of(handle, file));
    const manifest = image.manifest === undefined ? undefined : parseManifest(image.manifest);
    const problems = [...image.problems];
    if (manifest !== undefined && 'problem' in manifest) {
      problems.push(`the manifest cannot be used: ${manifest.problem}`);
    }
    return {
      ...basis,
      state: image.complete ? 'complete' : 'incomplete',
      form: 'mapped-ram',
      problems,
      image: {
        container: image.container.kind,
        machine: image.configuration.machine,
        capabilities: image.configuration.capabilities,
        pageSize: image.pageSize,
        ramBytes: image.blocks.reduce((sum, { usedLength }) => sum + usedLength, 0),
        normalPages: image.blocks.reduce((sum, { bitmap }) => sum + bitmap.count(), 0),
        blocks: image.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
        devices: image.devices.length,
      },
      ...defined({
        manifest: manifest === undefined || 'problem' in manifest ? undefined : describeManifest(manifest),
      }),
    };
  } catch (error) {
    const form = await formOf(handle);
    // Directories of saved VMs hold disks and notes as well; what is called a saved VM and is none, somebody looks for.
    if (form === undefined && path.extname(file) !== '.mapram') return undefined;
    const stream = form === 'stream' && error instanceof MapramError && error.code === 'UNSUPPORTED';
    return {
      ...basis,
      state: stream ? 'complete' : 'unreadable',
      problems: [errorReason(error)],
      ...(stream ? { form } : {}),
    };
  }
}

function describeManifest(manifest: Manifest): SavedManifest {
  const { id, createdAt, qemu, runState, checksums, signature, launch } = manifest;
  return {
    id,
    createdAt,
    ...defined({ qemu }),
    runState,
    ...defined({ checksums: checksums?.algorithm }),
    signed: signature !== undefined,
    launch: launch !== undefined,
  };
}

/** The file that was found there, if it is still there: nothing is waited for, and no link is followed. */
async function openFound(target: string, { dev, ino }: Stats): Promise<FileHandle | undefined> {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const handle = await open(target, flags).catch(() => undefined);
  const now = await handle?.stat();
  if (handle !== undefined && now?.isFile() && now.dev === dev && now.ino === ino) return handle;
  await handle?.close();
  return undefined;
}

/** Some file systems keep times that no calendar of ECMAScript has. */
function isoTime(ms: number): string {
  const time = new Date(ms);
  return Number.isNaN(time.getTime()) ? new Date(0).toISOString() : time.toISOString();
}

/** By its first bytes; undefined for what does not begin like a saved VM. */
async function formOf(handle: FileHandle): Promise<'stream' | 'other' | undefined> {
  try {
    const head = Buffer.alloc(128);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    const start = head.subarray(0, bytesRead);
    if (bytesRead >= 4 && start.readUInt32BE(0) === STREAM_MAGIC) {
      return bytesRead >= 8 && start.readUInt32BE(4) === STREAM_VERSION ? 'stream' : 'other';
    }
    return libvirtMark(start) === undefined ? undefined : 'other';
  } catch {
    return undefined;
  }
}
