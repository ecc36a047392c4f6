/** A store that is open: its snapshots by name, and what is needed to read and write them. */

import { randomBytes, randomUUID } from 'node:crypto';
import { defined } from '../defined.js';
import { MapramError } from '../errors.js';
import {
  CHUNK_BYTES,
  CONFIG_KEY,
  isSnapshotName,
  MAXIMUM_CONFIG_BYTES,
  MAXIMUM_ROOT_BYTES,
  PARALLEL_REQUESTS,
  ROOT_KEY,
  rootKey,
  SNAPSHOT_ID,
  STORE_FORMAT,
  snapshotId,
  timeOfId,
} from './format.js';
import { FrameCodec } from './frame-codec.js';
import { FrameReader } from './frame-reader.js';
import { openPlace } from './open-place.js';
import { mapParallel } from './parallel.js';
import type { Place } from './place.js';
import { type RawRoot, readRoot, type SnapshotRoot, unsealRoot } from './snapshot-root.js';
import { parseConfig, type StoreConfig } from './store-config.js';
import {
  createKeys,
  locked,
  type StoreEncryption,
  type StoreKeys,
  type StoreUnlock,
  unlockKeys,
} from './store-keys.js';

/** Which snapshot: the newest of a name where there is no ID. */
export interface SnapshotName {
  readonly name: string;
  readonly id?: string | undefined;
}

/** One snapshot. */
export interface SnapshotVersion {
  readonly name: string;
  readonly id: string;
}

export class Store {
  private constructor(
    readonly place: Place,
    readonly config: StoreConfig,
    /** Undefined in a store that is not encrypted, and where its key was not given. */
    readonly keys: StoreKeys | undefined,
    /** Undefined where the key was not given. */
    private readonly openCodec: FrameCodec | undefined,
  ) {}

  /**
   * Makes a store in a place where there is none.
   *
   * @throws MapramError `EXISTS`, `USAGE` for recipients that are none, `IO`
   */
  static async init(address: string, encryption?: StoreEncryption): Promise<Store> {
    const place = await openPlace(address);
    const id = randomUUID();
    const created = encryption && (await createKeys(id, encryption));
    const config: StoreConfig = {
      format: STORE_FORMAT,
      store: id,
      createdAt: new Date().toISOString(),
      chunkBytes: CHUNK_BYTES,
      ...defined({ encryption: created?.wrapped }),
    };
    if (!(await place.create(CONFIG_KEY, Buffer.from(`${JSON.stringify(config)}\n`), []))) {
      throw new MapramError('EXISTS', `creating ${place.address}: there is a store already`, {
        path: place.address,
      });
    }
    return new Store(place, config, created?.keys, new FrameCodec(created?.keys));
  }

  /**
   * @param unlock opens an encrypted store; without it names and sizes can be read, and nothing else
   * @throws MapramError `IO` where there is no store or it cannot be reached, `KEY` for a wrong key, `FORMAT`
   */
  static async open(address: string, unlock: StoreUnlock = {}): Promise<Store> {
    const place = await openPlace(address);
    const bytes = await place.get(CONFIG_KEY, { maximum: MAXIMUM_CONFIG_BYTES });
    if (bytes === undefined) {
      throw new MapramError(
        'IO',
        `opening ${place.address}: there is no store; \`mapram store init\` makes one`,
        { path: place.address },
      );
    }
    const config = parseConfig(bytes, `${place.address}/${CONFIG_KEY}`);
    const { encryption, store } = config;
    if (encryption === undefined) return new Store(place, config, undefined, new FrameCodec());
    if (unlock.identities === undefined && unlock.passphrase === undefined)
      return new Store(place, config, undefined, undefined);
    const keys = await unlockKeys(place.address, store, encryption, unlock);
    return new Store(place, config, keys, new FrameCodec(keys));
  }

  get address(): string {
    return this.place.address;
  }

  get isEncrypted(): boolean {
    return this.config.encryption !== undefined;
  }

  /** Whether contents can be read: the store is not encrypted, or its key is there. */
  get isUnlocked(): boolean {
    return this.openCodec !== undefined;
  }

  /** @throws MapramError `KEY` where the store is encrypted and its key was not given */
  codec(): FrameCodec {
    if (this.openCodec === undefined) throw locked(this.address);
    return this.openCodec;
  }

  /** What a snapshot is called in messages. */
  called({ name, id }: SnapshotName): string {
    return `${this.address}/${name}${id === undefined ? '' : `@${id}`}`;
  }

  /** All snapshots, or those of one name, the oldest of each name first. */
  async snapshots(name?: string): Promise<SnapshotVersion[]> {
    const found: SnapshotVersion[] = [];
    for (const { key } of await this.place.list(name === undefined ? 'roots/' : `roots/${name}/`)) {
      const [, of = '', id = ''] = ROOT_KEY.exec(key) ?? [];
      // A place may hold other things too; names that lead elsewhere are no names.
      if (isSnapshotName(of) && SNAPSHOT_ID.test(id)) found.push({ name: of, id });
    }
    const order = ({ name: of, id }: SnapshotVersion) => `${of}\0${id}`;
    return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  /** The newest of a name where no ID is given; undefined where there is none. */
  async find({ name, id }: SnapshotName): Promise<SnapshotVersion | undefined> {
    return id === undefined ? (await this.snapshots(name)).at(-1) : { name, id };
  }

  /**
   * @throws MapramError `IO` where there is no such snapshot, `FORMAT` for damage, `KEY`
   */
  async root(wanted: SnapshotName): Promise<SnapshotRoot> {
    const found = await this.find(wanted);
    const raw = found && (await this.rawRoot(found));
    if (raw === undefined || found === undefined) {
      throw new MapramError(
        'IO',
        `reading ${this.called(wanted)}: there is no such snapshot; \`mapram store list ${this.address}\` shows what there is`,
        { path: this.called(wanted) },
      );
    }
    return unsealRoot(raw, this.called(found), this.openCodec);
  }

  /** What can be read of a root without the key; undefined where there is none. @throws MapramError `FORMAT` */
  async rawRoot(found: SnapshotVersion): Promise<RawRoot | undefined> {
    const bytes = await this.place.get(rootKey(found.name, found.id), { maximum: MAXIMUM_ROOT_BYTES });
    if (bytes === undefined) return undefined;
    const keys = this.isUnlocked ? this.keys : 'unknown';
    return readRoot(bytes, this.called(found), { store: this.config.store, ...found }, keys);
  }

  /** All roots, as far as they can be read without the key. Those that vanish meanwhile are left out. */
  async rawRoots(): Promise<RawRoot[]> {
    const roots = await mapParallel(await this.snapshots(), PARALLEL_REQUESTS, (one) => this.rawRoot(one));
    return roots.filter((root) => root !== undefined);
  }

  unseal(raw: RawRoot): SnapshotRoot {
    return unsealRoot(raw, this.called(raw.open), this.openCodec);
  }

  reader(of: SnapshotName, signal?: AbortSignal): FrameReader {
    return new FrameReader(this.place, this.codec(), this.called(of), signal);
  }

  /** An ID for a new snapshot, later than those of its name that are there. */
  newId(newest?: string): string {
    const random = randomBytes(4).toString('hex');
    const id = snapshotId(Date.now(), random);
    return newest === undefined || id > newest ? id : snapshotId(timeOfId(newest) + 1, random);
  }
}
