import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { nativeBlocks, zlibBlocks } from '../../src/io/zstd-block.js';

const kinds = [
  ['libzstd', nativeBlocks()],
  ['node:zlib', zlibBlocks()],
] as const;

for (const [name, blocks] of kinds) {
  describe(`zstd blocks by ${name}`, { skip: blocks === undefined && 'not to be had here' }, () => {
    const { compress, decompress } = blocks as NonNullable<typeof blocks>;
    const text = Buffer.from('all work and no play '.repeat(5000));

    test('come back, whichever of the two has made them', () => {
      for (const [, other] of kinds) {
        const compressed = other?.compress(text, 1);
        if (compressed === undefined) continue;
        assert.ok(compressed.length < text.length / 10, `length: ${compressed.length}`);
        const into = Buffer.alloc(text.length);
        decompress(compressed, into);
        assert.deepEqual(into, text);
      }
    });

    test('what cannot be compressed is not', () => {
      for (const length of [0, 1, 65_536]) assert.equal(compress(randomBytes(length), 1), undefined);
    });

    test('a block that holds more or less than it should is an error, and nothing is written past the end', () => {
      const compressed = Buffer.from(compress(text, 1) as Uint8Array);
      const memory = Buffer.alloc(text.length + 100, 7);
      assert.throws(() => decompress(compressed, memory.subarray(0, 100)));
      assert.ok(
        memory.subarray(100).every((byte) => byte === 7),
        'bytes after the destination were written to',
      );
      assert.throws(() => decompress(compressed, Buffer.alloc(text.length + 1)));
      assert.throws(() => decompress(Buffer.from('not zstd'), Buffer.alloc(10)));
    });
  });
}
