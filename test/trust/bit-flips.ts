/** Flips single bits of a sound file, one at a time, and asks `verify` each time. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { type FilePlace, placesOf } from '../manifest/sample.js';
import { Random } from './random.js';

/** How many flips hit what, and how many of them were found. */
export type FlipCounts = Record<FilePlace, { flips: number; found: number }>;

/**
 * @param count of flips; a third of them anywhere, a third in pages, a third in headers, bitmaps, device state and manifest
 * @throws AssertionError for a flip in covered bytes that is not found, or one in meaningless bytes that is reported
 */
export async function flipBits(file: string, count: number, seed: number): Promise<FlipCounts> {
  const random = new Random(seed);
  const { placeOf, size, covered, pages } = await survey(file);
  const targets = [() => random.below(size), () => random.pick(covered), () => random.pick(pages)];
  const counts: FlipCounts = {
    'before the stream': { flips: 0, found: 0 },
    covered: { flips: 0, found: 0 },
    page: { flips: 0, found: 0 },
    'stale slot': { flips: 0, found: 0 },
    gap: { flips: 0, found: 0 },
  };
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  try {
    for (let flip = 0; flip < count; flip++) {
      const offset = (targets[flip % targets.length] as (typeof targets)[number])();
      const bit = random.below(8);
      readSync(fd, byte, 0, 1, offset);
      const before = byte[0] as number;
      byte[0] = before ^ (1 << bit);
      writeSync(fd, byte, 0, 1, offset);
      const found = await isFound(file);
      byte[0] = before;
      writeSync(fd, byte, 0, 1, offset);
      const place = placeOf(offset);
      const matters = place === 'page' || place === 'covered';
      assert.equal(found, matters, `bit ${bit} of the byte at ${offset} (${place}), seed ${seed}`);
      counts[place].flips++;
      if (found) counts[place].found++;
    }
    assert.deepEqual((await verify({ file, channels: 1, directIo: 'off' })).problems, []);
    return counts;
  } finally {
    closeSync(fd);
  }
}

async function survey(
  file: string,
): Promise<{ placeOf: (offset: number) => FilePlace; size: number; covered: number[]; pages: number[] }> {
  await using image = await MappedRamImage.open(file);
  const placeOf = placesOf(image);
  const size = image.source.byteLength;
  const places = { covered: [] as number[], page: [] as number[] };
  for (let offset = 0; offset < size; offset++) {
    const place = placeOf(offset);
    if (place === 'covered' || place === 'page') places[place].push(offset);
  }
  return { placeOf, size, covered: places.covered, pages: places.page };
}

/** A file that is refused as a whole is found out as well. */
async function isFound(file: string): Promise<boolean> {
  try {
    return !(await verify({ file, channels: 1, directIo: 'off' })).ok;
  } catch (error) {
    if (error instanceof MapramError && ['FORMAT', 'UNSUPPORTED'].includes(error.code)) return true;
    throw error;
  }
}
