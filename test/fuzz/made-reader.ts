/** A reader for the test of the corpus, which loads it when coverage is taken already. */

/** Tells which of its branches it took. */
export function readMade(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'nothing';
  const at = bytes.indexOf(0x41);
  if (at < 0) return 'no letter';
  const next = bytes[at + 1];
  if (next === undefined) {
    return 'letter at the end';
  } else if (next >= 0x80) {
    return 'letter and much';
  } else if (next === 0) {
    return 'letter and zero';
  }
  return 'letter and more';
}
