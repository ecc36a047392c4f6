/**
 * A frame is a chunk or a node as it lies in a pack.
 *
 * ```text
 * plain store        codec (1)  length (4)  payload
 * encrypted store    nonce (12) AES-256-GCM of { codec (1)  length (4)  payload }  tag (16)
 *
 * codec 0            payload is the bytes themselves
 * codec 1            payload is one zstd frame of them
 * length             how many bytes they are, little-endian
 * ```
 *
 * In an encrypted store every frame has a key of its own, made from its name, so a frame in the place of another does not open. The nonce
 * is made from key and contents: the same chunk gives the same frame, which is what lets a push that was broken off go on, and two different
 * contents never share key and nonce.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';
import { MapramError } from '../errors.js';
import { type ZstdBlocks, zstdBlocks } from '../io/zstd-block.js';
import type { StoreKeys } from './store-keys.js';

const CODEC = { raw: 0, zstd: 1 } as const;
/** As measured: higher levels cost more time than the network saves. */
const LEVEL = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 5;

/** What is in a frame; part of what its name is made from, so that a node never passes for a chunk. */
export type FrameKind = 'chunk' | 'node' | 'root';

/** Encodes and decodes frames of one store. One a thread. */
export class FrameCodec {
  readonly #zstd: ZstdBlocks;

  /**
   * @param keys of an encrypted store
   * @throws MapramError `UNSUPPORTED` where there is no zstd
   */
  constructor(private readonly keys?: StoreKeys) {
    const zstd = zstdBlocks();
    if (zstd === undefined) {
      throw new MapramError(
        'UNSUPPORTED',
        'compressing for a store: this host has no zstd; install libzstd (libzstd.so.1) or use Node.js 22.15 or later',
      );
    }
    this.#zstd = zstd;
  }

  /** Bytes that a frame is longer than what it holds, at most. */
  get overhead(): number {
    return HEAD_BYTES + (this.keys === undefined ? 0 : NONCE_BYTES + TAG_BYTES);
  }

  /** The name of these bytes: nobody without the store's key can make it where that is encrypted. */
  name(kind: FrameKind, bytes: Uint8Array): Buffer {
    const hash = this.keys === undefined ? createHash('sha256') : createHmac('sha256', this.keys.names);
    // Chunks are what there is most of: theirs is the plain digest.
    if (kind !== 'chunk') hash.update(`mapram ${kind}\0`);
    return hash.update(bytes).digest();
  }

  /** The frame of `bytes`, which are called `name`. */
  encode(name: Uint8Array, bytes: Uint8Array): Buffer {
    const compressed = this.#zstd.compress(bytes, LEVEL);
    const payload = compressed ?? bytes;
    const plain = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
    plain[0] = compressed === undefined ? CODEC.raw : CODEC.zstd;
    plain.writeUInt32LE(bytes.length, 1);
    plain.set(payload, HEAD_BYTES);
    if (this.keys === undefined) return plain;
    const nonce = createHmac('sha256', this.keys.nonces)
      .update(name)
      .update(plain)
      .digest()
      .subarray(0, NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#frameKey(name), nonce);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /**
   * What the frame holds.
   *
   * @param maximum bytes that it may hold
   * @returns what was stored under `name`, or what is wrong with the frame in people's words
   */
  decode(kind: FrameKind, name: Uint8Array, frame: Uint8Array, maximum: number): Buffer | string {
    const plain = this.#open(name, frame);
    if (typeof plain === 'string') return plain;
    const length = plain.readUInt32LE(1);
    if (length > maximum) return `it claims to hold ${length} bytes, more than the ${maximum} that it may`;
    const payload = plain.subarray(HEAD_BYTES);
    const bytes = this.#unpack(plain[0], payload, length);
    if (typeof bytes === 'string') return bytes;
    return this.name(kind, bytes).equals(name) ? bytes : 'its contents are not what its name says';
  }

  #unpack(codec: number | undefined, payload: Buffer, length: number): Buffer | string {
    if (codec === CODEC.raw) {
      return payload.length === length ? payload : `it holds ${payload.length} bytes, not ${length}`;
    }
    if (codec !== CODEC.zstd) return `it is encoded in an unknown way (${codec})`;
    const bytes = Buffer.allocUnsafeSlow(length);
    try {
      this.#zstd.decompress(payload, bytes);
      return bytes;
    } catch (error) {
      return `it cannot be decompressed (${(error as Error).message})`;
    }
  }

  #open(name: Uint8Array, frame: Uint8Array): Buffer | string {
    if (frame.length <= this.overhead) return 'it is too short';
    if (this.keys === undefined) return Buffer.from(frame.buffer, frame.byteOffset, frame.length);
    const decipher = createDecipheriv('aes-256-gcm', this.#frameKey(name), frame.subarray(0, NONCE_BYTES));
    decipher.setAuthTag(frame.subarray(frame.length - TAG_BYTES));
    try {
      const plain = decipher.update(frame.subarray(NONCE_BYTES, frame.length - TAG_BYTES));
      decipher.final();
      return plain;
    } catch {
      return 'it was changed, is another one, or was encrypted with another key';
    }
  }

  #frameKey(name: Uint8Array): Buffer {
    return createHmac('sha256', (this.keys as StoreKeys).frames)
      .update(name)
      .digest();
  }
}
