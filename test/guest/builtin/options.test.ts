import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BUILTIN_OPTION_KEYS,
  parseBuiltinOptions,
  resolveBuiltinOptions,
} from '../../../src/guest/builtin/options.js';
import { failsWith } from '../../support/fails-with.js';

test('options of builtin:… have their types and defaults', () => {
  assert.deepEqual(parseBuiltinOptions(''), {});
  assert.deepEqual(parseBuiltinOptions('size=1G,pattern=random,fill=50,dirty-rate=100M,seed=7,blocks=2'), {
    size: 2 ** 30,
    pattern: 'random',
    fill: 50,
    dirtyRate: 100 * 2 ** 20,
    seed: 7,
    blocks: 2,
  });
  assert.deepEqual(resolveBuiltinOptions({ size: 2 ** 20 }), {
    size: 2 ** 20,
    pattern: 'mixed',
    fill: 75,
    dirtyRate: 64 * 2 ** 20,
    seed: 1,
    blocks: 1,
  });
});

test('a wrong option is refused by name, with what it takes', () => {
  const cases: [string, RegExp][] = [
    ['speed=1', /unknown option 'speed'; valid ones are size, pattern, fill, dirty-rate, seed, blocks$/],
    ['constructor=1', /unknown option 'constructor'/],
    ['size', /'size' expects a size from 1 MiB to 1 TiB such as 256M, got 'size'/],
    ['size=1K', /'size' expects/],
    ['size=2T', /'size' expects/],
    ['size=1048577', /not a multiple of 1 blocks of 4096-byte pages/],
    ['size=1M,blocks=3', /not a multiple of 3 blocks/],
    ['pattern=stripes', /'pattern' expects one of random, mixed, zero/],
    ['fill=101', /'fill' expects a whole percentage/],
    ['fill=1.5', /'fill' expects a whole percentage/],
    ['dirty-rate=fast', /'dirty-rate' expects/],
    ['dirty-rate=5G', /'dirty-rate' expects/],
    ['seed=-1', /'seed' expects/],
    ['blocks=0', /'blocks' expects/],
    ['blocks=17', /'blocks' expects/],
    ['seed=1,seed=2', /'seed' is given twice/],
    ['pattern=zero,fill=10', /'fill' has no meaning with pattern=zero/],
    [',', /unknown option ''/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseBuiltinOptions(text), failsWith('USAGE', message), text);
  }
});

test('what memory holds at first is not for a guest that waits for a file to say', () => {
  assert.deepEqual(parseBuiltinOptions('size=1G,dirty-rate=0,blocks=2', true), {
    size: 2 ** 30,
    dirtyRate: 0,
    blocks: 2,
  });
  for (const text of ['pattern=zero', 'fill=1', 'seed=1']) {
    assert.throws(
      () => parseBuiltinOptions(text, true),
      failsWith('USAGE', /memory comes from a file/),
      text,
    );
  }
});

test('options given as values are checked too', () => {
  assert.throws(() => resolveBuiltinOptions({ fill: -1 }), failsWith('USAGE', /'fill' expects/));
  assert.throws(() => resolveBuiltinOptions({ size: Number.NaN }), failsWith('USAGE'));
  assert.equal(BUILTIN_OPTION_KEYS.length, 6);
});
