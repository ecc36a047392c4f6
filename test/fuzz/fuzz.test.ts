/** 50,000 changed inputs; `npm run soak` gives the same readers millions. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { corpusOf, fuzz } from './fuzz.js';
import { fuzzTargets, isExpected } from './targets.js';

const INPUTS = 50_000;
const targets = await fuzzTargets();
const totalWeight = targets.reduce((sum, { weight }) => sum + weight, 0);

describe('hostile input', () => {
  for (const target of targets) {
    test(target.name, async (context) => {
      for (const input of [...target.seeds, ...corpusOf(target)]) {
        await Promise.resolve()
          .then(() => target.read(input))
          .catch((error: unknown) => assert.ok(isExpected(error, target), String(error)));
      }
      const count = Math.ceil((INPUTS * target.weight) / totalWeight);
      const report = await fuzz(target, count, 1);
      context.diagnostic(JSON.stringify(report));
      assert.equal(report.inputs, count);
    });
  }
});
