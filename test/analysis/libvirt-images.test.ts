/** What libvirt 11.3 saved in its forms, opened, compared with one another, and converted. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { compareSavedVms } from '../../src/analysis/compare.js';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { convertToElf } from '../../src/snapshot/convert/convert-elf.js';
import { convertToMappedRam } from '../../src/snapshot/convert/convert-mapped-ram.js';
import { convertToStream } from '../../src/snapshot/convert/convert-stream.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { expectedOf, goldenNames } from '../golden/golden-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { openGolden, unpack } from './unpack.js';

const root = temporaryFolder('libvirt');
const SPARSE = 'libvirt-11.3-sparse';

for (const name of goldenNames('libvirt')) {
  describe(name, () => {
    const file = unpack(root, name);

    test('is inspected with its domain', async () => {
      const found = await inspect({ file });
      assert.deepEqual([found.container, found.complete, found.problems], ['libvirt', true, []]);
      assert.match(found.domainXml ?? '', /^<domain type='qemu'>\n {2}<name>web<\/name>/);
      assert.equal(found.machine, 'pc-i440fx-10.0');
      assert.deepEqual(
        found.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
        expectedOf(name).ramBlocks,
      );
    });

    test('has the memory that the others have', async () => {
      await using saved = await openSavedVm(file);
      assert.equal(saved.container.libvirt?.header.format, name.replace(/.*-/, ''));
      assert.match(saved.container.libvirt?.cookie ?? '', /^<cookie>/);
      await using sparse = await openGolden(SPARSE);
      const { blocks } = await compareSavedVms(sparse, saved);
      // Firmware and guest are the same; tables that QEMU makes are too.
      assert.deepEqual([...new Set(blocks.map(({ status }) => status))], ['equal']);
    });
  });
}

for (const name of ['libvirt-11.3-raw', 'libvirt-11.3-zstd']) {
  test(`${name} keeps its header as a mapped-ram file, which libvirt calls sparse (guests 8)`, async () => {
    const output = path.join(root, `${name}.mapram`);
    await using saved = await openSavedVm(unpack(root, name));
    await convertToMappedRam.convert(saved, { output });
    await using converted = await openSavedVm(output);
    assert.equal(converted.form, 'mapped-ram');
    assert.deepEqual(converted.container.libvirt, {
      ...saved.container.libvirt,
      header: { ...saved.container.libvirt?.header, format: 'sparse' },
    });
    assert.equal((await compareSavedVms(saved, converted)).equal, true);
    assert.deepEqual((await verify({ file: output })).problems, []);
  });
}

describe('a sparse image', () => {
  const file = unpack(root, SPARSE);

  test('is sound', async () => {
    const { ok, problems } = await verify({ file });
    assert.deepEqual([ok, problems], [true, []]);
  });

  for (const [form, convert] of [
    ['stream', convertToStream],
    ['mapped-ram', convertToMappedRam],
  ] as const) {
    test(`is the same VM as ${form}`, async () => {
      await using saved = await openSavedVm(file);
      const output = path.join(root, `converted.${form}`);
      await convert.convert(saved, { output });
      await using converted = await openSavedVm(output);
      assert.equal(converted.form, form);
      assert.equal((await compareSavedVms(saved, converted)).equal, true);
      assert.equal(converted.container.kind, form === 'stream' ? 'qemu' : 'libvirt');
    });
  }

  test('becomes a core', async () => {
    await using saved = await openSavedVm(file);
    const { notes } = await convertToElf.convert(saved, { output: path.join(root, 'core') });
    assert.match(notes[0] ?? '', /^1 cpu/);
  });
});
