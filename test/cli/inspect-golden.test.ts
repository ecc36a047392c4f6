import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceTree } from '../../src/cli/device-tree.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { unpack } from '../analysis/unpack.js';
import { expectedOf, goldenNames, register } from '../golden/golden-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('inspect');

for (const name of goldenNames('mapped-ram')) {
  test(`a real file is shown as QEMU knows it: ${name}`, async () => {
    const expected = expectedOf(name);
    const found = await inspect({
      file: unpack(root, name),
      ...(expected.offset === 0 ? {} : { offset: expected.offset }),
    });
    assert.equal(found.complete, true);
    assert.deepEqual(found.problems, []);
    assert.deepEqual(
      found.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      expected.ramBlocks,
    );
    const recorded = expected.capabilities.filter((one) => one === 'mapped-ram' || one === 'x-ignore-shared');
    assert.deepEqual([...found.capabilities].sort(), recorded.sort());
    const stale = found.blocks.reduce((sum, block) => sum + (block.stalePages ?? 0), 0);
    // What was written once is still there, or became zero, or was written again.
    if (name.endsWith('-live')) assert.ok(stale > 0, 'the live golden file has stale pages');
    else assert.equal(found.normalPages + stale, expected.migration.normal);
    const text = found.devices.map(deviceTree).join('\n');
    assert.doesNotMatch(text, /undefined|\[object/);
    if (/^(pc|q35|microvm)/.test(name)) {
      const eip = register(expected, 'EIP');
      const shown = eip > 9n ? `${eip} (0x${eip.toString(16)})` : String(eip);
      assert.ok(text.includes(`env.eip: ${shown}\n`), text.slice(0, 2000));
    }
  });
}
