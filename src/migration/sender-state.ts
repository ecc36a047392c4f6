/**
 * What the threads that send a stream share.
 *
 * ```
 * int64  packets        multifd packets sent on all channels
 * int64  normalPages[connection], duplicatePages[connection], bytes[connection]
 * int32  nextChunk      the next part of RAM that an idle channel takes
 * int32  aborted
 * ```
 */
const COUNTERS = ['normalPages', 'duplicatePages', 'bytes'] as const;

export class SenderState {
  readonly #packets: BigInt64Array;
  readonly #counters: BigInt64Array;
  readonly #words: Int32Array;

  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly connections: number,
  ) {
    this.#packets = new BigInt64Array(buffer, 0, 1);
    this.#counters = new BigInt64Array(buffer, 8, connections * COUNTERS.length);
    this.#words = new Int32Array(buffer, 8 + this.#counters.byteLength, 2);
  }

  static create(connections: number): SenderState {
    return new SenderState(new SharedArrayBuffer(16 + connections * COUNTERS.length * 8), connections);
  }

  nextPacketNumber(): bigint {
    return Atomics.add(this.#packets, 0, 1n);
  }

  takeChunk(): number {
    return Atomics.add(this.#words, 0, 1);
  }

  get aborted(): boolean {
    return Atomics.load(this.#words, 1) !== 0;
  }

  abort(): void {
    Atomics.store(this.#words, 1, 1);
  }

  add(connection: number, counts: Partial<Record<(typeof COUNTERS)[number], number>>): void {
    for (const [index, counter] of COUNTERS.entries()) {
      const amount = counts[counter] ?? 0;
      if (amount > 0) Atomics.add(this.#counters, connection * COUNTERS.length + index, BigInt(amount));
    }
  }

  of(connection: number): Record<(typeof COUNTERS)[number], number> {
    const value = (index: number) =>
      Number(Atomics.load(this.#counters, connection * COUNTERS.length + index));
    return { normalPages: value(0), duplicatePages: value(1), bytes: value(2) };
  }
}
