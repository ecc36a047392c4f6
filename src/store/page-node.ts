/**
 * A node of the page table over a file: up to 1024 entries, each of which leads to a chunk (level 1) or to a node of the level
 * below. What is not there is zero.
 *
 * ```text
 * 0        4   "MPTN"
 * 4        1   format, 1
 * 5        1   level, 1 to 3
 * 6        2   P: number of packs
 * 8        2   E: number of entries, 1 to 1024
 * 10       6   zero
 * 16       32 × P    packs that the entries lie in: SHA-256 of each, in the order of their first use
 * …        128       which entries are there: bit i & 7 of byte i >> 3 for entry i
 * …        42 × E    the entries, in ascending order
 *                      0   32  name
 *                      32   4  offset of its frame in the pack
 *                      36   4  length of the frame
 *                      40   2  number of the pack in the list above
 * ```
 *
 * Integers are little-endian. A node is named by its bytes, so nodes that are equal are stored once, and none can lead back to itself.
 */
import { MAXIMUM_LEVELS, MAXIMUM_PACK_BYTES, NAME_BYTES, NODE_ENTRIES } from './format.js';

const MAGIC = 'MPTN';
const HEAD_BYTES = 16;
const BITMAP_BYTES = NODE_ENTRIES / 8;
const ENTRY_BYTES = NAME_BYTES + 10;
const FORMAT = 1;

/** No node is longer. */
export const MAXIMUM_NODE_BYTES = HEAD_BYTES + NODE_ENTRIES * (NAME_BYTES + ENTRY_BYTES) + BITMAP_BYTES;

/** Where a frame lies, and what is in it. */
export interface FrameReference {
  readonly name: Buffer;
  /** Its pack: SHA-256, hexadecimal. */
  readonly pack: string;
  readonly offset: number;
  readonly length: number;
}

export class PageNode {
  readonly #entries: (FrameReference | undefined)[] = new Array(NODE_ENTRIES);

  constructor(readonly level: number) {}

  get(index: number): FrameReference | undefined {
    return this.#entries[index];
  }

  set(index: number, reference: FrameReference | undefined): void {
    this.#entries[index] = reference;
  }

  /** What is there, in ascending order. */
  *entries(): Generator<[index: number, reference: FrameReference]> {
    for (let index = 0; index < NODE_ENTRIES; index++) {
      const reference = this.#entries[index];
      if (reference !== undefined) yield [index, reference];
    }
  }

  get isEmpty(): boolean {
    return this.#entries.every((entry) => entry === undefined);
  }

  encode(): Buffer {
    const entries = [...this.entries()];
    const packs = [...new Set(entries.map(([, { pack }]) => pack))];
    const numbers = new Map(packs.map((pack, number) => [pack, number]));
    const packsEnd = HEAD_BYTES + packs.length * NAME_BYTES;
    const bytes = Buffer.alloc(packsEnd + BITMAP_BYTES + entries.length * ENTRY_BYTES);
    bytes.write(MAGIC, 0, 'latin1');
    bytes[4] = FORMAT;
    bytes[5] = this.level;
    bytes.writeUInt16LE(packs.length, 6);
    bytes.writeUInt16LE(entries.length, 8);
    for (const [number, pack] of packs.entries()) bytes.write(pack, HEAD_BYTES + number * NAME_BYTES, 'hex');
    let at = packsEnd + BITMAP_BYTES;
    for (const [index, { name, pack, offset, length }] of entries) {
      bytes[packsEnd + (index >> 3)] = (bytes[packsEnd + (index >> 3)] ?? 0) | (1 << (index & 7));
      bytes.set(name, at);
      bytes.writeUInt32LE(offset, at + NAME_BYTES);
      bytes.writeUInt32LE(length, at + NAME_BYTES + 4);
      bytes.writeUInt16LE(numbers.get(pack) ?? 0, at + NAME_BYTES + 8);
      at += ENTRY_BYTES;
    }
    return bytes;
  }

  /**
   * @param level that it must have
   * @returns the node, or what is wrong with it in people's words
   */
  static decode(bytes: Buffer, level: number): PageNode | string {
    if (bytes.length < HEAD_BYTES + BITMAP_BYTES || bytes.toString('latin1', 0, 4) !== MAGIC)
      return 'it is not a node';
    if (bytes[4] !== FORMAT) return `it has format ${bytes[4]}, this version of mapram reads ${FORMAT}`;
    if (level < 1 || level > MAXIMUM_LEVELS || bytes[5] !== level)
      return `it is of level ${bytes[5]}, not ${level}`;
    const packs = bytes.readUInt16LE(6);
    const count = bytes.readUInt16LE(8);
    const bitmap = HEAD_BYTES + packs * NAME_BYTES;
    const start = bitmap + BITMAP_BYTES;
    if (packs > NODE_ENTRIES || count > NODE_ENTRIES || bytes.length !== start + count * ENTRY_BYTES)
      return 'its length does not fit its head';
    const ids = Array.from({ length: packs }, (_, number) =>
      bytes.toString('hex', HEAD_BYTES + number * NAME_BYTES, HEAD_BYTES + (number + 1) * NAME_BYTES),
    );
    const node = new PageNode(level);
    let at = start;
    for (let index = 0; index < NODE_ENTRIES; index++) {
      if (((bytes[bitmap + (index >> 3)] ?? 0) & (1 << (index & 7))) === 0) continue;
      const reference =
        at < bytes.length ? decodeEntry(bytes.subarray(at, at + ENTRY_BYTES), ids) : undefined;
      if (reference === undefined) return `its entry ${index} leads nowhere`;
      node.set(index, reference);
      at += ENTRY_BYTES;
    }
    return at === bytes.length ? node : 'it has more entries than its bitmap tells';
  }
}

function decodeEntry(bytes: Buffer, packs: readonly string[]): FrameReference | undefined {
  const pack = packs[bytes.readUInt16LE(NAME_BYTES + 8)];
  const offset = bytes.readUInt32LE(NAME_BYTES);
  const length = bytes.readUInt32LE(NAME_BYTES + 4);
  if (pack === undefined || length === 0 || offset + length > MAXIMUM_PACK_BYTES) return undefined;
  return { name: Buffer.from(bytes.subarray(0, NAME_BYTES)), pack, offset, length };
}
