/** Changes to bytes that keep most of their structure, so that readers get past the first check. */
import type { Random } from '../trust/random.js';

/** Values at the edges of what fields hold. */
const EDGES = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn]
  .concat([0x1_0000_0000n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 62n, 2n ** 63n, 2n ** 64n - 1n])
  .concat([0xfffn, 0x1000n, 0x100000n]);

const TEXTS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ',',
  ':',
  '\\',
  '\0',
  '-1',
  '1e999',
  '9'.repeat(40),
  'null',
  '\\ud800',
];

type Mutator = (bytes: Uint8Array, random: Random, others: readonly Uint8Array[]) => Uint8Array;

/** Changes that keep the length. */
const IN_PLACE: readonly Mutator[] = [
  (bytes, random) => {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    return bytes;
  },
  (bytes, random) => {
    bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  },
  (bytes, random) => {
    const size = random.pick([1, 2, 4, 8]);
    if (bytes.length < size) return bytes;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const at = random.below(bytes.length - size + 1);
    const value = random.pick(EDGES);
    const little = random.below(4) === 0;
    if (size === 1) view.setUint8(at, Number(value & 0xffn));
    else if (size === 2) view.setUint16(at, Number(value & 0xffffn), little);
    else if (size === 4) view.setUint32(at, Number(value & 0xffffffffn), little);
    else view.setBigUint64(at, value, little);
    return bytes;
  },
  (bytes, random) => {
    const length = random.below(Math.min(64, bytes.length) + 1);
    const from = random.below(bytes.length - length + 1);
    const to = random.below(bytes.length - length + 1);
    bytes.copyWithin(to, from, from + length);
    return bytes;
  },
];

const RESIZING: readonly Mutator[] = [
  (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
  (bytes, random) => {
    const at = random.below(bytes.length);
    const length = random.below(Math.min(256, bytes.length - at) + 1);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
  },
  (bytes, random) => {
    const at = random.below(bytes.length);
    const length = random.below(Math.min(256, bytes.length - at) + 1);
    const times = 1 + random.below(3);
    const piece = bytes.subarray(at, at + length);
    return Buffer.concat([
      bytes.subarray(0, at),
      ...new Array(times + 1).fill(piece),
      bytes.subarray(at + length),
    ]);
  },
  (bytes, random) => {
    const at = random.below(bytes.length + 1);
    const times = random.below(20) === 0 ? 300 : 1;
    const text = Buffer.from(random.pick(TEXTS).repeat(times), 'latin1');
    return Buffer.concat([bytes.subarray(0, at), text, bytes.subarray(at)]);
  },
  (bytes, random, others) => {
    const other = random.pick(others);
    return Buffer.concat([
      bytes.subarray(0, random.below(bytes.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ]);
  },
];

/** A changed copy of one of `seeds`. */
export function mutate(seeds: readonly Uint8Array[], random: Random, mayResize = true): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(random.pick(seeds));
  const kinds = mayResize ? [...IN_PLACE, ...IN_PLACE, ...RESIZING] : IN_PLACE;
  for (let change = random.below(4); change >= 0; change--) {
    if (bytes.length === 0) return bytes;
    bytes = Uint8Array.from(random.pick(kinds)(bytes, random, seeds));
  }
  return bytes;
}
