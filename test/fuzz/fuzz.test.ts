/** 50,000 changed inputs; `npm run soak` gives the same readers millions. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { corpusFilesOf, corpusFolder, corpusOf, fits, folderNameOf, nameOf } from './corpus.js';
import { fuzz } from './fuzz.js';
import { MAX_INPUT_BYTES } from './grow-corpus.js';
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

describe('the corpus', () => {
  for (const target of targets) {
    test(`${target.name} reads its corpus first, as it is`, async () => {
      const files = corpusFilesOf(target);
      assert.ok(files.length > 0, 'there is none: npm run soak -- corpus');
      const read: Uint8Array[] = [];
      const reader = { ...target, read: (bytes: Uint8Array) => read.push(bytes) };
      await fuzz(reader, files.length + 1, 1);
      assert.deepEqual(
        read.slice(0, -1),
        files.map(({ bytes }) => bytes),
      );
      for (const { name, bytes, grown } of files) {
        assert.ok(fits(target, bytes), `${name} has not the length of a seed: npm run soak -- corpus`);
        assert.ok(bytes.length <= MAX_INPUT_BYTES, name);
        if (grown) assert.equal(name, nameOf(bytes), 'a file is not what was stored');
      }
    });
  }

  test('belongs to targets that there are, and is small', () => {
    assert.deepEqual(readdirSync(corpusFolder).sort(), targets.map(folderNameOf).sort());
    const files = targets.flatMap(corpusFilesOf);
    const bytes = files.reduce((sum, file) => sum + file.bytes.length, 0);
    assert.ok(files.length <= 600 && bytes <= 2 << 20, `${files.length} files, ${bytes} bytes`);
  });
});
