/**
 * Serves the files of a snapshot over FUSE while they are fetched from their store: what VMs ask for first, the rest in the
 * background. Ends when nobody has a file of it open or mapped.
 */
import { constants, existsSync, mkdirSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from '../../deferred.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { type FuseDirectory, type FuseFile, FuseServer } from '../../fuse/fuse-server.js';
import { tryLock } from '../../io/file/file-lock.js';
import { renameFile } from '../../io/file/file-names.js';
import { truncateFile } from '../../io/file/file-space.js';
import { syncDirectoryOf } from '../../io/file/file-sync.js';
import { unmountFuse } from '../../io/file/fuse-mount.js';
import { closeFile, openFile, releaseFiles } from '../../io/file/open-file.js';
import { ProcessHandle } from '../../io/process/process-handle.js';
import { readProcessMaps } from '../../io/process/process-maps.js';
import { ChunkMap } from '../../store/chunk-map.js';
import { timeOfId } from '../../store/format.js';
import { LazyFile } from '../../store/lazy-file.js';
import { ChunkFetcher } from '../../store/pull.js';
import type { SnapshotRoot, StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { LazyConfig } from './lazy-config.js';
import { type LazyLayout, type LazyStatus, lazyLayout, writeStatus } from './lazy-layout.js';

/** Chunks that are fetched together in the background: 4 MiB, of which some 1 MiB travels. */
const GROUP_CHUNKS = 64;
/** Such groups under way. */
const GROUPS = 4;
/** How long the background waits for a read of a VM before it goes on beside it. */
const YIELD_MS = 5;
/** A try to reach a store again comes after this pause, then after twice as long, and so on. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
/** No request for so long: perhaps nobody is left. */
const IDLE_MS = 5000;
const LOOK_MS = 2000;
/** How long those who have files open may take to close them once they are given up. */
const CLOSING_MS = 10_000;

export class LazyServer {
  readonly #layout: LazyLayout;
  readonly #ended = new AbortController();
  #files: readonly LazyFile[] = [];
  #fetcher: ChunkFetcher | undefined;
  #state: LazyStatus['state'];
  #problem: string | undefined;
  #requestAt = performance.now();

  constructor(private readonly config: LazyConfig) {
    this.#layout = lazyLayout(config.folder);
    this.#state = config.fetch === 'all' ? 'fetching' : 'on-demand';
  }

  /**
   * Serves until the file system is unmounted, by this server or by others.
   *
   * @param device descriptor of /dev/fuse
   * @throws MapramError after which the VMs have been ended
   */
  async run(device: number): Promise<void> {
    this.#report();
    const opened = await this.#openStore().catch(async (error) => {
      await this.#giveUp(error);
      throw error;
    });
    await this.#serve(device, opened);
  }

  async #serve(device: number, { store, root }: { store: Store; root: SnapshotRoot }): Promise<void> {
    await using fetcher = new ChunkFetcher(store, root, {
      phase: 'fetch',
      totalBytes: root.dataBytes,
      signal: this.#ended.signal,
    });
    this.#fetcher = fetcher;
    this.#files = root.files.map((file, number) => this.#open(file, number, store, fetcher));
    const failed = deferred<never>();
    const server = new FuseServer(device, this.#tree(root), {
      timeMs: timeOfId(root.id),
      onRequest: () => {
        this.#requestAt = performance.now();
      },
      onFailure: (error) => failed.reject(error as Error),
    });
    server.resend();
    const background = this.#fill();
    background.catch((error) => failed.reject(error));
    const idle = this.#endWhenIdle();
    idle.catch((error) => failed.reject(error));
    const served = server.serve();
    try {
      await Promise.race([served, failed.promise]);
    } catch (error) {
      this.#ended.abort();
      await this.#giveUp(error);
      // VMs that have been killed close their files, for which they need answers.
      await Promise.race([served, sleep(CLOSING_MS).then(endWithGuard)]);
      throw error;
    } finally {
      this.#ended.abort();
      await Promise.allSettled([background, idle]);
      for (const file of this.#files) file[Symbol.dispose]();
    }
    this.#leave();
  }

  async #openStore(): Promise<{ store: Store; root: SnapshotRoot }> {
    const { place, name, id, unlock } = this.config;
    let opened: { store: Store; root: SnapshotRoot } | undefined;
    await this.#persist(async () => {
      const store = await Store.open(place, unlock);
      opened = { store, root: await store.root({ name, id }) };
    });
    return opened as { store: Store; root: SnapshotRoot };
  }

  #open(stored: StoredFile, number: number, store: Store, fetcher: ChunkFetcher): LazyFile {
    const { files, chunks } = this.#layout;
    // A server that was killed after it had completed the files left them where they are complete.
    const folder = existsSync(files) ? files : this.config.folder;
    const file = path.join(folder, placeOf(stored));
    const fd = openFile(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW);
    try {
      truncateFile(fd, stored.bytes);
      const map = ChunkMap.open(path.join(chunks, String(number)), stored.bytes);
      return new LazyFile(stored, {
        fetcher,
        codec: store.codec(),
        fd,
        map,
        persist: (task) => this.#persist(task),
      });
    } catch (error) {
      releaseFiles([fd]);
      throw error;
    }
  }

  #tree(root: SnapshotRoot): FuseDirectory {
    const entries = root.files.map(({ role }, index): [string, FuseFile] => {
      const file = this.#files[index] as LazyFile;
      const { name, bytes } = file;
      return [role, { name, bytes, read: (offset, length) => file.read(offset, length) }];
    });
    const of = (role: StoredFile['role']) => entries.filter(([is]) => is === role).map(([, file]) => file);
    const disks = of('disk');
    const folder = disks.length === 0 ? [] : [{ name: 'disks', entries: disks }];
    return { name: '', entries: [...of('state'), ...folder] };
  }

  /** Repeats what needs the store while that cannot be reached, for as long as it may be out of reach. */
  async #persist(task: () => Promise<void>): Promise<void> {
    const { offlineTimeoutMs } = this.config;
    let since: number | undefined;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        await task();
        if (since !== undefined) this.#change(this.config.fetch === 'all' ? 'fetching' : 'on-demand');
        return;
      } catch (error) {
        if (!(error instanceof MapramError) || error.code !== 'IO' || this.#ended.signal.aborted) throw error;
        since ??= performance.now();
        if (performance.now() - since > offlineTimeoutMs) throw error;
        this.#change('offline', errorReason(error));
        await sleep(pause, undefined, { signal: this.#ended.signal });
      }
    }
  }

  async #fill(): Promise<void> {
    if (this.config.fetch === 'on-demand') return;
    const running = new Set<Promise<void>>();
    for (const file of this.#files) {
      for await (const [first, end] of file.missing(GROUP_CHUNKS)) {
        while (running.size >= GROUPS) await Promise.race(running);
        await this.#pace();
        const group = file.bring(first, end).finally(() => running.delete(group));
        running.add(group);
      }
    }
    await Promise.all(running);
    await this.#complete();
  }

  /** Reads of VMs come first, and no more is fetched than `maxRate` allows. */
  async #pace(): Promise<void> {
    const { signal } = this.#ended;
    signal.throwIfAborted();
    if (this.#files.some(({ isUrgent }) => isUrgent)) await sleep(YIELD_MS, undefined, { signal });
    const { maxRate } = this.config;
    if (maxRate === undefined) return;
    const due = this.#startedAt + ((this.#fetcher?.fetchedBytes ?? 0) / maxRate) * 1000;
    const wait = due - performance.now();
    if (wait > 0) await sleep(wait, undefined, { signal });
  }

  readonly #startedAt = performance.now();

  /** What is there now is a local copy as a pull makes it. */
  async #complete(): Promise<void> {
    const { files } = this.#layout;
    for (const file of this.#files) {
      file.complete();
      await file.sync();
    }
    if (existsSync(files) && !existsSync(this.config.folder)) {
      const time = timeOfId(this.config.id) / 1000;
      for (const file of this.#files) utimesSync(path.join(files, placeOf(file.stored)), time, time);
      renameFile(files, this.config.folder);
      await syncDirectoryOf(this.config.folder);
    }
    this.#change('complete');
  }

  /** Unmounts when nobody has a file open or mapped, and nobody is about to: who starts VMs holds the lock. */
  async #endWhenIdle(): Promise<void> {
    const { signal } = this.#ended;
    for (;;) {
      await sleep(LOOK_MS, undefined, { signal });
      this.#report();
      if (performance.now() - this.#requestAt < IDLE_MS) continue;
      const lock = openFile(`${this.config.folder}.lock`, constants.O_RDWR | constants.O_CREAT);
      try {
        if (tryLock(lock, 'exclusive') && (await unmountFuse(this.#layout.mount, 'idle'))) return;
      } finally {
        closeFile(lock);
      }
    }
  }

  #change(state: LazyStatus['state'], problem?: string): void {
    if (this.#state === 'complete' && state !== 'failed') return;
    this.#state = state;
    this.#problem = problem;
    this.#report();
  }

  #report(): void {
    try {
      writeStatus(this.#layout, {
        state: this.#state,
        fetchedBytes: this.#fetcher?.fetchedBytes ?? 0,
        ...defined({ problem: this.#problem }),
      });
    } catch {
      // VMs need their memory more than anyone needs to read this.
    }
  }

  /** A page that cannot be had must not become zeros, nor a SIGBUS that nobody explains. */
  async #giveUp(error: unknown): Promise<void> {
    this.#change('failed', errorReason(error));
    for (const pid of usersOf(this.#layout.mount)) {
      try {
        using handle = ProcessHandle.open(pid);
        handle.signal('SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await unmountFuse(this.#layout.mount, 'detach');
  }

  /** A complete snapshot needs nothing of this any more; what is there of another one serves the next resume. */
  #leave(): void {
    const { folder, mount } = this.#layout;
    if (this.#state === 'complete') rmSync(folder, { recursive: true, force: true });
    else rmSync(mount, { recursive: true, force: true });
  }
}

/** Cuts off whoever still has a file open: the file system goes with the last copy of its descriptor. */
function endWithGuard(): void {
  process.kill(process.ppid, 'SIGKILL');
  process.kill(process.pid, 'SIGKILL');
}

/** Where a file lies within a snapshot's folder. */
export function placeOf({ role, name }: Pick<StoredFile, 'role' | 'name'>): string {
  return role === 'disk' ? path.join('disks', name) : name;
}

/** Makes the folders of a snapshot that is to be served. */
export function makeLazyFolders(folder: string): LazyLayout {
  const layout = lazyLayout(folder);
  for (const needed of [path.join(layout.files, 'disks'), layout.chunks, layout.mount])
    mkdirSync(needed, { recursive: true, mode: 0o700 });
  return layout;
}

/** Processes that have mapped a file below a folder. */
function usersOf(mount: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && hasMapped(pid, `${mount}${path.sep}`));
}

function hasMapped(pid: number, prefix: string): boolean {
  try {
    return readProcessMaps(pid).some(({ path: file }) => file.startsWith(prefix));
  } catch {
    return false;
  }
}
