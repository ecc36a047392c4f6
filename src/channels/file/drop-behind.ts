/**
 * Buffered writes of large files: what was written goes to the disk at once, since dirty data would otherwise pile up until the kernel
 * stops every writer. Where direct I/O was wanted and cannot be had it also leaves the page cache when it is on the disk, so that
 * others keep what they have cached.
 */
import { dropCache, finishWriteBack, startWriteBack } from '../../io/file/page-cache.js';

/** How far the disk may be behind, in bytes of one channel: enough to be busy all the time. */
const LAG_BYTES = 32 * 2 ** 20;

export class DropBehind {
  readonly #pending: { offset: number; length: number }[] = [];
  #pendingBytes = 0;

  constructor(
    private readonly fd: number,
    private readonly drop: boolean,
  ) {}

  /** Tells that a range was just written. Waits for older ones when the disk lags behind. */
  wrote(offset: number, length: number): void {
    startWriteBack(this.fd, offset, length);
    if (!this.drop) return;
    this.#pending.push({ offset, length });
    this.#pendingBytes += length;
    while (this.#pendingBytes > LAG_BYTES) this.#finishOldest();
  }

  /** Waits for what is to leave the page cache. */
  finish(): void {
    while (this.#pending.length > 0) this.#finishOldest();
  }

  #finishOldest(): void {
    const oldest = this.#pending.shift();
    if (oldest === undefined) return;
    this.#pendingBytes -= oldest.length;
    finishWriteBack(this.fd, oldest.offset, oldest.length);
    dropCache(this.fd, oldest.offset, oldest.length);
  }
}
