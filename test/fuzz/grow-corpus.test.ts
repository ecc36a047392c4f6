/** The corpus of a made reader: small inputs that reach all of it. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Coverage } from './coverage.js';
import { type GrowOptions, growCorpus, minimise } from './grow-corpus.js';

const SEED = Buffer.from(`${'-'.repeat(200)}Ab${'-'.repeat(100)}`);

const coverage = new Coverage((url) => url.endsWith('/fuzz/made-reader.js'));
const { readMade: take } = await import('./made-reader.js');
after(() => coverage[Symbol.dispose]());

async function grow(options: Partial<GrowOptions>): Promise<Uint8Array[]> {
  // What the module and the tests themselves ran is not of interest.
  coverage.take();
  return await growCorpus({
    seeds: [SEED],
    always: [],
    earlier: [],
    count: 3000,
    seed: 1,
    async reach(inputs) {
      for (const bytes of inputs) take(bytes);
      return coverage.take();
    },
    ...options,
  });
}

describe('growing a corpus', () => {
  test('inputs reach all branches, are small, and none is superfluous', async () => {
    const found = await grow({});
    assert.deepEqual(
      new Set([take(SEED), ...found.map(take)]),
      new Set([
        'nothing',
        'no letter',
        'letter at the end',
        'letter and much',
        'letter and zero',
        'letter and more',
      ]),
    );
    assert.equal(found.length, 5, 'one for each branch that the seed does not take');
    for (const bytes of found) assert.ok(bytes.length <= 2, `${bytes.length} bytes`);
    assert.deepEqual(new Set((await grow({ count: 0, earlier: found })).map(take)), new Set(found.map(take)));
  });

  test('what is there whatever comes is not found again, and what is superfluous is dropped', async () => {
    const found = await grow({
      always: [Buffer.from('A')],
      earlier: [Buffer.from('--A'), Buffer.from('A\0')],
    });
    assert.deepEqual(found.map(take).sort(), ['letter and much', 'letter and zero', 'no letter', 'nothing']);
  });

  test('inputs of a fixed length keep it, and are zero where nothing is needed', async () => {
    const found = await grow({ fixedLength: true });
    assert.ok(found.map(take).includes('letter and much'), 'the branch behind both conditions was not found');
    for (const bytes of found) {
      assert.equal(bytes.length, SEED.length);
      assert.ok(bytes.filter((byte) => byte !== 0).length <= 2, Buffer.from(bytes).toString('latin1'));
    }
  });

  test('an input becomes no smaller than what it is for', async () => {
    const keeps = (text: string) => async (bytes: Uint8Array) => Buffer.from(bytes).includes(text);
    const least = await minimise(SEED, keeps('Ab'), false);
    assert.equal(Buffer.from(least).toString(), 'Ab');
    assert.deepEqual(await minimise(SEED, async () => false, false), SEED);
    assert.equal((await minimise(SEED, async () => true, false)).length, 0);
  });
});
