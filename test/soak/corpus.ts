/**
 * Grows the corpus of one fuzz target: `corpus.js FOLDER COUNT SEED`. A process of its own, since coverage must be taken
 * before anything of `src` is loaded.
 */
import assert from 'node:assert/strict';
import { corpusFilesOf, fits, folderNameOf, storeGrown, storeTrouble } from '../fuzz/corpus.js';
import { Coverage } from '../fuzz/coverage.js';
import { growCorpus } from '../fuzz/grow-corpus.js';

const [folder, count, seed] = process.argv.slice(2);
const src = new URL('../../src/', import.meta.url).href;
using coverage = new Coverage((url) => url.startsWith(src));
const { fuzzTargets, isExpected } = await import('../fuzz/targets.js');
const target = (await fuzzTargets()).find((one) => folderNameOf(one) === folder);
assert.ok(target, `there is no target ${folder}`);

const reach = async (inputs: readonly Uint8Array[]) => {
  for (const bytes of inputs) {
    try {
      await target.read(bytes);
    } catch (error) {
      if (isExpected(error, target)) continue;
      throw new Error(`${target.name}: ${error}; the input is ${storeTrouble(target, bytes)}`, {
        cause: error,
      });
    }
  }
  return coverage.take();
};

// What was reached while the seeds were made is not of interest.
coverage.take();
const files = corpusFilesOf(target).filter(({ bytes }) => fits(target, bytes));
const [earlier, always] = [true, false].map((which) =>
  files.filter(({ grown }) => grown === which).map(({ bytes }) => bytes),
) as [Uint8Array[], Uint8Array[]];
const grown = await growCorpus({
  seeds: target.seeds,
  fixedLength: target.fixedLength,
  always,
  earlier,
  count: Number(count),
  seed: Number(seed),
  reach,
});
storeGrown(target, grown);
const bytes = grown.reduce((sum, { length }) => sum + length, 0);
console.log(`${target.name}: ${JSON.stringify({ inputs: grown.length, bytes, before: earlier.length })}`);
