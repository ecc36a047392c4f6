/**
 * Bytes that have arrived and are not read yet.
 *
 * Reads never wait: the caller first makes sure that `available` is large enough. What lies within one chunk is
 * handed out as a view on that chunk, what straddles chunks as a copy.
 */
export class ByteQueue {
  /** Bytes that can be read now. */
  available = 0;
  /** Number of bytes read or skipped since the start. */
  position = 0;
  /** Bytes that will be dropped on arrival. */
  skippable = 0;

  private readonly waiting: Uint8Array[] = [];
  private chunk: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(new ArrayBuffer(0));
  private at = 0;

  push(chunk: Uint8Array): void {
    // Not a Buffer, whose `slice` is a view where that of a Uint8Array is a copy.
    let fresh = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.skippable > 0) {
      const dropped = Math.min(this.skippable, fresh.byteLength);
      this.skippable -= dropped;
      fresh = fresh.subarray(dropped);
    }
    if (fresh.byteLength === 0) return;
    this.available += fresh.byteLength;
    if (this.at === this.chunk.byteLength) this.open(fresh);
    else this.waiting.push(fresh);
  }

  /** Drops the next `length` bytes, those not yet arrived included. */
  skip(length: number): void {
    this.position += length;
    let rest = length;
    while (rest > 0 && this.available > 0) {
      const step = Math.min(rest, this.chunk.byteLength - this.at);
      this.advance(step);
      this.available -= step;
      rest -= step;
    }
    this.skippable += rest;
  }

  peekUint8(): number {
    return this.view.getUint8(this.at);
  }

  uint8(): number {
    const value = this.view.getUint8(this.at);
    this.position += 1;
    this.available -= 1;
    this.advance(1);
    return value;
  }

  uint16(): number {
    return this.uint8() * 0x100 + this.uint8();
  }

  uint32(): number {
    const { at } = this;
    if (this.chunk.byteLength - at > 4) {
      this.at = at + 4;
      this.position += 4;
      this.available -= 4;
      return this.view.getUint32(at);
    }
    return this.uint16() * 0x10000 + this.uint16();
  }

  bigUint64(): bigint {
    return (BigInt(this.uint32()) << 32n) | BigInt(this.uint32());
  }

  /** The next `length` bytes: a view where they lie in one chunk, else a copy. */
  take(length: number): Uint8Array {
    const { at } = this;
    this.position += length;
    this.available -= length;
    if (this.chunk.byteLength - at >= length) {
      const bytes = this.chunk.subarray(at, at + length);
      this.advance(length);
      return bytes;
    }
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      const step = Math.min(length - filled, this.chunk.byteLength - this.at);
      bytes.set(this.chunk.subarray(this.at, this.at + step), filled);
      filled += step;
      this.advance(step);
    }
    return bytes;
  }

  /** The next `length` bytes without reading them; a copy where they straddle chunks. */
  peek(length: number): Uint8Array {
    if (this.chunk.byteLength - this.at >= length) return this.chunk.subarray(this.at, this.at + length);
    const bytes = new Uint8Array(length);
    let filled = this.chunk.byteLength - this.at;
    bytes.set(this.chunk.subarray(this.at));
    for (const chunk of this.waiting) {
      if (filled === length) break;
      const part = chunk.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.byteLength;
    }
    return bytes;
  }

  /** Copies what is left of the chunk pushed last, so that its memory may be reused. */
  detach(): void {
    const last = this.waiting.length - 1;
    if (last >= 0) this.waiting[last] = (this.waiting[last] as Uint8Array).slice();
    else this.open(this.chunk.slice(this.at));
  }

  /** How many of the `available` bytes are in the current chunk. */
  get chunkAvailable(): number {
    return this.chunk.byteLength - this.at;
  }

  /** All bytes up to the end of the current chunk. */
  takeChunk(): Uint8Array {
    return this.take(this.chunkAvailable);
  }

  private advance(length: number): void {
    this.at += length;
    if (this.at === this.chunk.byteLength) {
      const next = this.waiting.shift();
      if (next !== undefined) this.open(next);
    }
  }

  private open(chunk: Uint8Array): void {
    this.chunk = chunk;
    this.view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.at = 0;
  }
}
