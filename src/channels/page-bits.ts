/** Page bits as the layout stores them, least significant bit of each byte first. */

export function testBit(bits: Uint8Array, index: number): boolean {
  return (((bits[index >>> 3] ?? 0) >>> (index & 7)) & 1) === 1;
}

/** Sets the bits `[start, end)`. */
export function setBits(bits: Uint8Array, start: number, end: number): void {
  for (let index = start; index < end; ) {
    if ((index & 7) === 0 && end - index >= 8) {
      bits[index >>> 3] = 0xff;
      index += 8;
    } else {
      bits[index >>> 3] = (bits[index >>> 3] ?? 0) | (1 << (index & 7));
      index++;
    }
  }
}

/** Clears the bits `[start, end)`. */
export function clearBits(bits: Uint8Array, start: number, end: number): void {
  for (let index = start; index < end; index++) {
    bits[index >>> 3] = (bits[index >>> 3] ?? 0) & ~(1 << (index & 7));
  }
}

/** The first index in `[start, end)` whose bit is `value`, or `end`. */
export function findBit(bits: Uint8Array, start: number, end: number, value: boolean): number {
  const uninteresting = value ? 0 : 0xff;
  let index = start;
  while (index < end) {
    if ((index & 7) === 0 && bits[index >>> 3] === uninteresting) {
      index += 8;
    } else if (testBit(bits, index) === value) {
      return index;
    } else {
      index++;
    }
  }
  return end;
}

/** Pages `[first, end)`. */
export interface BitRun {
  first: number;
  end: number;
}

/** Stretches of `[start, end)` whose bits are `value`. */
export function* bitRuns(bits: Uint8Array, start: number, end: number, value: boolean): Generator<BitRun> {
  for (let first = findBit(bits, start, end, value); first < end; ) {
    const past = findBit(bits, first, end, !value);
    yield { first, end: past };
    first = findBit(bits, past, end, value);
  }
}
