/** The directories that the user named: what is saved there, how much room there is and how fast their disks are. */
import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { checkDirectory, type SpeedTrial } from '../doctor/directory-check.js';
import { errorReason, MapramError } from '../errors.js';
import { freeSpace } from '../io/file/file-space.js';
import { RequestError } from './reply.js';

export interface DirectoryEntry {
  /** Absolute. */
  readonly path: string;
  readonly freeBytes: number;
  /** Bytes a second, as a short trial found them. */
  readonly speed?: SpeedTrial;
  readonly measuring: boolean;
  /** Why there is no speed, or why the directory cannot be used. */
  readonly message?: string;
  /** Files that the list of saved VMs has no room for. */
  readonly omittedFiles: number;
}

export class Directories {
  readonly #paths: readonly string[];
  readonly #speeds = new Map<string, { speed?: SpeedTrial; message?: string }>();
  readonly #measuring = new Set<string>();
  readonly #omitted = new Map<string, number>();
  #queue: Promise<void> = Promise.resolve();

  /** @throws MapramError `IO` or `USAGE` for a path that is no directory */
  constructor(
    paths: readonly string[],
    private readonly onChange: () => void,
  ) {
    this.#paths = [...new Set(paths.map(existingDirectory))];
  }

  get paths(): readonly string[] {
    return this.#paths;
  }

  get entries(): DirectoryEntry[] {
    return this.#paths.map((directory) => ({
      path: directory,
      freeBytes: freeBytesOf(directory),
      measuring: this.#measuring.has(directory),
      omittedFiles: this.#omitted.get(directory) ?? 0,
      ...this.#speeds.get(directory),
    }));
  }

  /** A file of this name in a directory of the list. @throws RequestError */
  file(directory: string, name: string): string {
    if (!this.#paths.includes(directory))
      throw new RequestError(404, `there is no directory ${directory} here`);
    if (name === '' || name.startsWith('.') || /[/\0]/.test(name) || Buffer.byteLength(name) > 200) {
      throw new RequestError(
        400,
        'a file name must not be empty, begin with a dot, hold a slash or be longer than 200 bytes',
      );
    }
    return path.join(directory, name);
  }

  /** How many files of a directory the list of saved VMs has no room for. */
  noteOmitted(directory: string, count: number): void {
    if ((this.#omitted.get(directory) ?? 0) === count) return;
    this.#omitted.set(directory, count);
    this.onChange();
  }

  /** The directory of the list that a file is in. */
  of(file: string): string | undefined {
    return this.#paths.find((directory) => path.dirname(file) === directory);
  }

  /** Measures the speed of a disk, one at a time. Never throws. */
  measure(directory: string, signal: AbortSignal): Promise<void> {
    if (!this.#paths.includes(directory))
      throw new RequestError(404, `there is no directory ${directory} here`);
    if (this.#measuring.has(directory)) return this.#queue;
    this.#measuring.add(directory);
    this.onChange();
    this.#queue = this.#queue.then(async () => {
      this.#speeds.set(directory, await trySpeed(directory, signal));
      this.#measuring.delete(directory);
      this.onChange();
    });
    return this.#queue;
  }
}

function existingDirectory(given: string): string {
  try {
    const absolute = realpathSync(given);
    if (statSync(absolute).isDirectory()) return absolute;
  } catch (error) {
    throw new MapramError('IO', `looking for saved VMs in ${given}: ${errorReason(error)}`, {
      path: given,
      cause: error,
    });
  }
  throw new MapramError('USAGE', `looking for saved VMs in ${given}: it is not a directory`, { path: given });
}

function freeBytesOf(directory: string): number {
  try {
    return freeSpace(directory);
  } catch {
    return 0;
  }
}

async function trySpeed(
  directory: string,
  signal: AbortSignal,
): Promise<{ speed?: SpeedTrial; message?: string }> {
  try {
    const { speed } = await checkDirectory(directory, signal);
    return speed === undefined ? { message: 'too little room for a speed trial' } : { speed };
  } catch (error) {
    return { message: errorReason(error) };
  }
}
