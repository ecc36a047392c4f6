/** What the channels of one set share: when to stop, the next chunk to take, their bandwidth, and what each has done. */
import { SharedWords } from '../../threads/shared-words.js';
import { BANDWIDTH_WORDS, Bandwidth } from '../bandwidth.js';

/**
 * - `stopped`: take no more work, end the present call and report.
 * - `chunks`: how many were taken in this pass.
 * - `packets`: multifd packets that all channels have sent.
 */
const WORDS = ['stopped', 'chunks', 'packets', ...BANDWIDTH_WORDS] as const;

/** Totals of one channel since it was opened. */
const COUNTERS = ['bytes', 'normalPages', 'duplicatePages', 'punchedPages', 'busy'] as const;

export type ChannelCounters = Record<(typeof COUNTERS)[number], number>;

export class ChannelState extends SharedWords<(typeof WORDS)[number], keyof ChannelCounters> {
  readonly bandwidth = new Bandwidth(this);

  constructor(channels: number, buffer?: SharedArrayBuffer) {
    super(WORDS, COUNTERS, channels, buffer);
  }

  get stopped(): boolean {
    return this.get('stopped') !== 0;
  }

  set stopped(value: boolean) {
    this.set('stopped', value ? 1 : 0);
    // After the word that a waiting channel asks for when it wakes.
    if (value) this.bandwidth.wake();
  }

  /** Waits as the bandwidth demands for `bytes` that were written, or until the channels are stopped. */
  spend(bytes: number): void {
    this.bandwidth.spend(bytes, () => this.stopped);
  }

  /** Before a pass: the first chunk is the next one to take. */
  rewind(): void {
    this.set('chunks', 0);
  }

  /** The index of a chunk that nobody else gets. */
  takeChunk(): number {
    return this.add('chunks', 1);
  }

  nextPacketNumber(): bigint {
    return BigInt(this.add('packets', 1));
  }
}
