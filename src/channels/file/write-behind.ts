/**
 * Gathers pages and writes them while the next ones come in: a few buffers take turns, one being filled, the others on
 * their way to the file. The thread that fills may block in reads meanwhile: writes run on Node's pool of threads.
 *
 * A page that comes again is never overtaken by its older copy: a buffer waits for those before it that hold one of its pages.
 */
import { startWriteBack } from '../../io/file/page-cache.js';
import { writeVector } from '../../io/file/vectored-write.js';
import { GatherBuffer, type GatheredWrite } from '../socket/gather-buffer.js';

/** Of one buffer, and the most that can be gathered in one piece. */
export const GATHER_BYTES = 2 << 20;
/** One is filled while two are written, so that the disk always has something to do. */
const BUFFERS = 3;

export interface WriteBehindOptions {
  /** Whether `fd` has O_DIRECT. */
  direct: boolean;
  /** Called before a range is written. */
  prepare(position: number, length: number): void;
}

export class WriteBehind {
  readonly #fd: number;
  readonly #options: WriteBehindOptions;
  readonly #free = Array.from({ length: BUFFERS }, () => new GatherBuffer(GATHER_BYTES));
  /** With what comes true when they are in the file. */
  readonly #writing = new Map<GatherBuffer, Promise<void>>();
  #current = this.#free.pop() as GatherBuffer;
  #failure: { error: unknown } | undefined;

  constructor(fd: number, options: WriteBehindOptions) {
    this.#fd = fd;
    this.#options = options;
  }

  /** Bytes that there is room for without waiting. */
  get free(): number {
    return this.#current.free;
  }

  /** Memory for `length` bytes, at most `GATHER_BYTES`; undefined where `makeRoom` must be awaited first. */
  room(length: number): Buffer | undefined {
    return this.#current.room(length);
  }

  /** Sends off what is gathered; resolves with a buffer to go on with. */
  async makeRoom(): Promise<void> {
    this.#submit();
    while (this.#free.length === 0) await Promise.race(this.#writing.values());
    this.#throwFailure();
    this.#current = this.#free.pop() as GatherBuffer;
  }

  /** Tells that the next `length` bytes of the room belong at `slot` of the file. Returns them. */
  append(slot: number, length: number): Buffer {
    return this.#current.append(slot, length);
  }

  /** The gathered bytes for that slot, where they can still be changed. */
  find(slot: number): Buffer | undefined {
    return this.#current.find(slot);
  }

  /** Whether any of these bytes of the file are gathered or being written. */
  touches(slot: number, length: number): boolean {
    if (this.#current.touches(slot, length)) return true;
    return [...this.#writing.keys()].some((buffer) => buffer.touches(slot, length));
  }

  /** Resolves when everything is in the file. */
  async settle(): Promise<void> {
    if (!this.#current.empty) await this.makeRoom();
    await Promise.all(this.#writing.values());
    this.#throwFailure();
  }

  /** Resolves when nothing is being written any more, in whatever state. What is gathered is lost. */
  async close(): Promise<void> {
    await Promise.all(this.#writing.values());
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error;
  }

  #submit(): void {
    const buffer = this.#current;
    const older = [...this.#writing].filter(([other]) => buffer.overlaps(other)).map(([, done]) => done);
    const done = this.#write(buffer, older)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => {
        this.#writing.delete(buffer);
        buffer.clear();
        this.#free.push(buffer);
      });
    this.#writing.set(buffer, done);
  }

  async #write(buffer: GatherBuffer, older: readonly Promise<void>[]): Promise<void> {
    const rounds = buffer.writes();
    for (const { position, length } of rounds.flat()) this.#options.prepare(position, length);
    if (older.length > 0) await Promise.all(older);
    // All at once: the filling thread may not come back to start another one for a while.
    for (const writes of rounds) await Promise.all(writes.map((write) => this.#writeOne(write)));
  }

  async #writeOne({ position, length, parts }: GatheredWrite): Promise<void> {
    await writeVector(this.#fd, parts, position);
    // Buffered data would otherwise pile up in the page cache until the kernel stops every writer at once.
    if (!this.#options.direct) startWriteBack(this.#fd, position, length);
  }
}
