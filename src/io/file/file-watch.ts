import { constants, type FSWatcher, fstatSync, watch } from 'node:fs';
import { descriptorPath, releaseFiles, reopenFile } from './open-file.js';

export type FileChange =
  /** Its contents, or its time at least. */ 'written' | /** It has become shorter. */ 'cut';

/**
 * Notices when somebody writes to a file or cuts it short, whatever becomes of its name. Each kind of change is told once.
 *
 * inotify tells of writes on this host, not of those through mappings, nor of those on other hosts of a network file
 * system: these show in the file's time, which is looked at once more when the watch ends. The event loop may end while a
 * file is watched.
 */
export class FileWatch implements Disposable {
  readonly #fd: number;
  readonly #onChange: (change: FileChange) => void;
  readonly #watcher: FSWatcher | undefined;
  readonly #told = new Set<FileChange>();
  #size: number;
  #mtimeMs: number;
  #ended = false;

  /** @param fd an open descriptor of the file, which stays the caller's */
  constructor(fd: number, onChange: (change: FileChange) => void) {
    this.#fd = reopenFile(fd, constants.O_RDONLY);
    this.#onChange = onChange;
    ({ size: this.#size, mtimeMs: this.#mtimeMs } = fstatSync(this.#fd));
    this.#watcher = this.#watch();
  }

  /** Undefined where this user has all the watches that the system grants. */
  #watch(): FSWatcher | undefined {
    try {
      const watcher = watch(descriptorPath(this.#fd), { persistent: false }, () => this.#look());
      return watcher.on('error', () => {});
    } catch {
      return undefined;
    }
  }

  #look(): void {
    if (this.#ended) return;
    const { size, mtimeMs } = fstatSync(this.#fd);
    if (size === this.#size && mtimeMs === this.#mtimeMs) return;
    const change = size < this.#size ? 'cut' : 'written';
    this.#size = size;
    this.#mtimeMs = mtimeMs;
    if (this.#told.has(change)) return;
    this.#told.add(change);
    this.#onChange(change);
  }

  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#look();
    this.#ended = true;
    this.#watcher?.close();
    releaseFiles([this.#fd]);
  }
}
