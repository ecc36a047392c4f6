/**
 * A guest that is paused for a save must not stay paused for as long as a disk likes: btrfs that fills up lets writes wait for
 * minutes before it refuses them.
 */
import { MapramError } from '../../errors.js';

/** Between two looks, in ms. */
const LOOK_MS = 1000;
/** Without any page for so long there is a warning, and then the save is given up. */
const WARN_MS = 10_000;
const GIVE_UP_MS = 120_000;
/** A look that is so late means that this process did not run: it was stopped (SIGSTOP, a debugger). */
const ASLEEP_MS = 5000;

export interface StallWatchOptions {
  file: string;
  /** Bytes of pages that have been seen to so far. */
  bytes(): number;
  onWarning(message: string): void;
  /** Called once, with what the save is to fail with. */
  onStalled(error: MapramError): void;
  /** In ms; replaceable in tests. */
  now?(): number;
}

export class StallWatch implements Disposable {
  readonly #options: StallWatchOptions;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  #lookedAt: number;
  #progressAt: number;
  #bytes: number;
  #warned = false;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#lookedAt = this.#now();
    this.#progressAt = this.#lookedAt;
    this.#bytes = options.bytes();
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  look(): void {
    const { file, onWarning } = this.#options;
    const now = this.#now();
    const late = now - this.#lookedAt - LOOK_MS;
    this.#lookedAt = now;
    if (late > ASLEEP_MS) {
      this.#progressAt += late;
      onWarning(
        `saving to ${file}: mapram did not run for ${seconds(late)}, and the guest was paused as long: it was stopped by a signal or a debugger`,
      );
    }
    const bytes = this.#options.bytes();
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#progressAt = now;
      this.#warned = false;
      return;
    }
    this.#complain(now - this.#progressAt);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #complain(stalledMs: number): void {
    const { file, onWarning, onStalled } = this.#options;
    if (stalledMs >= GIVE_UP_MS) {
      this[Symbol.dispose]();
      onStalled(
        new MapramError(
          'IO',
          `saving to ${file}: the disk took nothing for ${seconds(stalledMs)} while the guest was paused; look for a full or failing disk, or choose another file system`,
          { path: file },
        ),
      );
    } else if (stalledMs >= WARN_MS && !this.#warned) {
      this.#warned = true;
      onWarning(
        `saving to ${file}: the disk has taken nothing for ${seconds(stalledMs)} while the guest is paused; it is given up after ${seconds(GIVE_UP_MS)}, ^C does so now`,
      );
    }
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
