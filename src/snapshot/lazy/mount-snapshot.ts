/** Shows the files of a snapshot in a directory, read-only, without fetching more than is read: what `mapram mount` does. */
import { assertOptions, path as filePath, optionsOf, signal, text } from '../../checked-options.js';
import { errorReason } from '../../errors.js';
import { type FuseFile, FuseServer } from '../../fuse/fuse-server.js';
import { mountFuse, unmountFuse } from '../../io/file/fuse-mount.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { timeOfId } from '../../store/format.js';
import { parseSnapshotAddress } from '../../store/open-place.js';
import type { StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { StoreSource } from '../../store/store-source.js';
import { runOperation } from '../files/operation.js';
import { onWarning, unlock as unlockKind } from '../files/option-kinds.js';
import { unlockFromEnvironment } from '../store/unlock.js';

export interface MountSnapshotOptions {
  /** `PLACE/NAME` or `PLACE/NAME@ID`. */
  readonly snapshot: string;
  /** An existing directory. */
  readonly dir: string;
  /** By default what the environment names. */
  readonly unlock?: StoreUnlock | undefined;
  /** Called for a read that fails; who reads gets EIO. */
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const MountSnapshotOptionsSchema = optionsOf<MountSnapshotOptions>({
  snapshot: text,
  dir: filePath,
  unlock: unlockKind,
  onWarning,
  signal,
});

/** A mounted snapshot. Disposing unmounts it. */
export class MountedSnapshot implements AsyncDisposable {
  /** @internal */
  constructor(
    /** `PLACE/NAME@ID`. */
    readonly address: string,
    readonly directory: string,
    /** Paths relative to `directory`. */
    readonly files: readonly string[],
    /** Settles when it is unmounted, by this process or by `umount`. */
    readonly unmounted: Promise<void>,
    private readonly onWarning?: (message: string) => void,
  ) {}

  /** Unmounts, and waits until no file of it is open any more: those that are stay readable until then. */
  async close(): Promise<void> {
    if (!(await unmountFuse(this.directory, 'idle'))) {
      this.onWarning?.(
        `${this.directory} is unmounted, but files of it are still open: they are served until they are closed`,
      );
      await unmountFuse(this.directory, 'detach');
    }
    await this.unmounted;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * @throws MapramError `UNSUPPORTED` where FUSE is missing, `IO` where there is no such snapshot or the directory cannot be mounted on,
 *   `KEY`, `FORMAT` for a damaged root
 */
export async function mountSnapshot(options: MountSnapshotOptions): Promise<MountedSnapshot> {
  assertOptions('mountSnapshot', MountSnapshotOptionsSchema, options);
  return runOperation(`mounting ${options.snapshot}`, options.dir, options, mountChecked);
}

async function mountChecked(options: MountSnapshotOptions): Promise<MountedSnapshot> {
  const { snapshot, dir: directory, unlock = unlockFromEnvironment() } = options;
  const { place, ...which } = parseSnapshotAddress(snapshot);
  const store = await Store.open(place, unlock);
  const root = await store.root(which);
  options.signal?.throwIfAborted();
  const address = store.called(root);
  const of = (role: StoredFile['role']) =>
    root.files.filter((file) => file.role === role).map((file) => fileOf(store, file, root));
  const disks = of('disk');
  const entries = [...of('state'), ...(disks.length === 0 ? [] : [{ name: 'disks', entries: disks }])];
  const device = await mountFuse(directory, address);
  const server = new FuseServer(
    device,
    { name: '', entries },
    { timeMs: timeOfId(root.id), onFailure: (error) => options.onWarning?.(errorReason(error)) },
  );
  const unmounted = server.serve().finally(() => releaseFiles([device]));
  const files = root.files.map(({ role, name }) => (role === 'disk' ? `disks/${name}` : name));
  return new MountedSnapshot(address, directory, files, unmounted, options.onWarning);
}

function fileOf(store: Store, file: StoredFile, root: { name: string; id: string }): FuseFile {
  const source = new StoreSource(file, store.reader(root));
  return {
    name: file.name,
    bytes: file.bytes,
    read: (offset, length) => source.read(offset, length),
  };
}
