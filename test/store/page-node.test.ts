import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { NODE_ENTRIES } from '../../src/store/format.js';
import { MAXIMUM_NODE_BYTES, PageNode } from '../../src/store/page-node.js';

const hex = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => Buffer.from(bytes).toString('hex'));
const packs = fc.array(hex(32), { minLength: 1, maxLength: 4 });
const nodes = packs.chain((ids) =>
  fc
    .dictionary(
      fc.nat(NODE_ENTRIES - 1).map(String),
      fc.record({
        name: hex(32).map((text) => Buffer.from(text, 'hex')),
        pack: fc.constantFrom(...ids),
        offset: fc.nat(2 ** 25),
        length: fc.integer({ min: 1, max: 2 ** 17 }),
      }),
      { minKeys: 1, maxKeys: 50 },
    )
    .map((entries) => {
      const node = new PageNode(2);
      for (const [index, entry] of Object.entries(entries)) node.set(Number(index), { ...entry });
      return node;
    }),
);

describe('a node of a page table', () => {
  test('comes back from its bytes, which are always the same', () => {
    fc.assert(
      fc.property(nodes, (node) => {
        const bytes = node.encode();
        const back = PageNode.decode(bytes, 2);
        assert.ok(back instanceof PageNode, String(back));
        assert.deepEqual([...back.entries()], [...node.entries()]);
        assert.deepEqual(back.encode(), bytes);
      }),
    );
  });

  test('with anything changed in it is another node, or is refused in one sentence', () => {
    fc.assert(
      fc.property(nodes, fc.nat(), fc.integer({ min: 1, max: 255 }), (node, place, change) => {
        const bytes = node.encode();
        const at = place % bytes.length;
        bytes[at] = (bytes[at] as number) ^ change;
        const back = PageNode.decode(bytes, 2);
        if (typeof back === 'string') assert.match(back, /^it[ s].*[a-z0-9]$/);
      }),
    );
    for (const length of [0, 4, 100, 200])
      assert.equal(typeof PageNode.decode(Buffer.alloc(length), 1), 'string');
  });

  test('has at most 75.9 KB', () => {
    const node = new PageNode(1);
    for (let index = 0; index < NODE_ENTRIES; index++) {
      const pack = index.toString(16).padStart(64, '0');
      node.set(index, { name: Buffer.alloc(32, index), pack, offset: 32, length: 100 });
    }
    const bytes = node.encode();
    assert.equal(bytes.length, MAXIMUM_NODE_BYTES);
    assert.ok(PageNode.decode(bytes, 1) instanceof PageNode, 'a sound node was refused');
  });
});
