const encoder = new TextEncoder();

/** A growing run of big-endian bytes. */
export class ByteBuilder {
  private bytes: Uint8Array;
  private view: DataView;
  length = 0;

  constructor(capacity = 256) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  uint8(value: number): this {
    this.reserve(1);
    this.bytes[this.length] = value;
    this.length += 1;
    return this;
  }

  uint16(value: number): this {
    this.reserve(2);
    this.view.setUint16(this.length, value);
    this.length += 2;
    return this;
  }

  uint32(value: number): this {
    this.reserve(4);
    this.view.setUint32(this.length, value);
    this.length += 4;
    return this;
  }

  /** A 64-bit integer given as a safe integer or a bigint. */
  uint64(value: number | bigint): this {
    this.reserve(8);
    if (typeof value === 'bigint') this.view.setBigUint64(this.length, value);
    else {
      this.view.setUint32(this.length, Math.floor(value / 2 ** 32));
      this.view.setUint32(this.length + 4, value % 2 ** 32);
    }
    this.length += 8;
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.reserve(bytes.byteLength);
    this.bytes.set(bytes, this.length);
    this.length += bytes.byteLength;
    return this;
  }

  /** One length byte, then the text, no NUL. Throws a `RangeError` when it takes more than 255 bytes. */
  str8(text: string): this {
    const bytes = encoder.encode(text);
    if (bytes.byteLength > 255)
      throw new RangeError(`"${text}" takes ${bytes.byteLength} bytes, at most 255 fit`);
    return this.uint8(bytes.byteLength).raw(bytes);
  }

  /** A view on what has been written so far; the builder must not be written to afterwards. */
  finish(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  private reserve(length: number): void {
    const needed = this.length + length;
    if (needed <= this.bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.byteLength * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}
