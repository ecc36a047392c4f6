import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { compareSavedVms } from '../../src/analysis/compare.js';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { convertToElf } from '../../src/snapshot/convert/convert-elf.js';
import { convertToMappedRam } from '../../src/snapshot/convert/convert-mapped-ram.js';
import { convertToRaw } from '../../src/snapshot/convert/convert-raw.js';
import { expectedOf, goldenBytes, register } from '../golden/golden-file.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { pageOf, writeSyntheticImage } from './synthetic-image.js';
import { openGolden, unpack } from './unpack.js';

const GIB = 2 ** 30;
const root = temporaryFolder('convert');
const output = (name: string) => path.join(root, name);

describe('raw', () => {
  test('is a file a block, byte for byte the memory', async () => {
    const saved = await openGolden('pc-10.0-stream');
    const { files } = await convertToRaw.convert(saved, { output: output('raw') });
    assert.deepEqual(
      files.map(({ block }) => block),
      saved.blocks.map(({ idstr }) => idstr),
    );
    const ram = files.find(({ block }) => block === 'pc.ram');
    const [block] = saved.blocks;
    assert.ok(ram && block, 'one of these is missing: ram, block');
    assert.deepEqual(
      new Uint8Array(readFileSync(ram.file)),
      await saved.readPages(block, 0, block.pageCount),
    );
    assert.ok(ram.allocatedBytes < ram.fileBytes, 'zero pages are holes');
    assert.equal(path.basename(files[1]?.file ?? ''), 'rom@etc_acpi_tables.raw');
    assert.equal(statSync(ram.file).mode & 0o777, 0o600);
  });

  test('is one file with a block named, and says which blocks there are', async () => {
    const saved = await openGolden('pc-10.0-stream');
    const { files } = await convertToRaw.convert(saved, { output: output('bios'), block: 'pc.bios' });
    assert.deepEqual([files.length, files[0]?.fileBytes], [1, 65536]);
    await assert.rejects(
      convertToRaw.convert(saved, { output: output('none'), block: 'ram' }),
      failsWith('USAGE', /no RAM block ram; it has pc.ram, /),
    );
    await assert.rejects(
      convertToRaw.convert(saved, { output: output('bios'), block: 'pc.bios' }),
      failsWith('EXISTS'),
    );
  });
});

interface Segment {
  type: number;
  offset: number;
  virtual: bigint;
  physical: bigint;
  length: number;
}

function segmentsOf(head: Buffer): Segment[] {
  assert.equal(head.subarray(0, 4).toString('latin1'), '\x7fELF');
  return Array.from({ length: head.readUInt16LE(56) }, (_, index) => {
    const at = 64 + index * 56;
    return {
      type: head.readUInt32LE(at),
      offset: Number(head.readBigUInt64LE(at + 8)),
      virtual: head.readBigUInt64LE(at + 16),
      physical: head.readBigUInt64LE(at + 24),
      length: Number(head.readBigUInt64LE(at + 32)),
    };
  });
}

function notesOf(bytes: Buffer): { name: string; type: number; description: Buffer }[] {
  const notes = [];
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  for (let at = 0; at < bytes.length; ) {
    const [nameLength, length] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
    const start = at + 12 + padded(nameLength);
    notes.push({
      name: bytes.subarray(at + 12, at + 12 + nameLength - 1).toString(),
      type: bytes.readUInt32LE(at + 8),
      description: bytes.subarray(start, start + length),
    });
    at = start + padded(length);
  }
  return notes;
}

describe('elf', () => {
  test('has the registers that QEMU printed', async () => {
    const name = 'pc-10.0-mapped-ram';
    const file = output('elf');
    await convertToElf.convert(await openGolden(name), { output: file });
    const bytes = readFileSync(file);
    const [notes, ram, bios] = segmentsOf(bytes);
    assert.ok(notes && ram && bios, 'one of these is missing: notes, ram, bios');
    assert.deepEqual([ram.physical, ram.length, bios.physical], [0n, 2 ** 21, 0xffff0000n]);
    const [status, cpu] = notesOf(bytes.subarray(notes.offset, notes.offset + notes.length));
    assert.ok(status && cpu, 'one of these is missing: status, cpu');
    assert.deepEqual([status.name, status.type, status.description.length], ['CORE', 1, 336]);
    const expected = expectedOf(name);
    const registers = 112;
    assert.equal(status.description.readBigUInt64LE(registers + 10 * 8), register(expected, 'EAX'));
    assert.equal(status.description.readBigUInt64LE(registers + 16 * 8), register(expected, 'EIP'));
    assert.equal(status.description.readUInt32LE(32), 1);
    assert.deepEqual([cpu.name, cpu.description.readUInt32LE(4)], ['QEMU', 440]);
    const cr0 = 8 + 18 * 8 + 10 * 24;
    assert.equal(cpu.description.readBigUInt64LE(cr0), register(expected, 'CR0'));
    assert.equal(cpu.description.readBigUInt64LE(cr0 + 3 * 8), register(expected, 'CR3'));
  });

  test('puts memory over 2 GiB of a q35 behind the PCI hole, and the kernel at its virtual address', async () => {
    const file = output('large.img');
    const above = (2 * GIB) / 4096;
    const text = Buffer.from(
      'OSRELEASE=6.1.0\nNUMBER(phys_base)=-2097152\nSYMBOL(_stext)=ffffffff81200000\n',
    );
    const note = Buffer.alloc(4096);
    note.writeUInt32LE(11, 0);
    note.writeUInt32LE(text.length, 4);
    note.write('VMCOREINFO', 12);
    text.copy(note, 24);
    await writeSyntheticImage(file, 'pc-q35-10.0', [
      { idstr: 'pc.ram', usedLength: 3 * GIB, pages: { 1: pageOf(1), 5: note, [above]: pageOf(2) } },
    ]);
    await using saved = await openSavedVm(file);
    const core = output('large.elf');
    const { notes } = await convertToElf.convert(saved, { output: core });
    assert.match(notes[0] ?? '', /with VMCOREINFO/);
    await using handle = await open(core);
    const head = Buffer.alloc(8192);
    await handle.read(head, 0, head.length, 0);
    const [noteSegment, low, high, kernel] = segmentsOf(head);
    assert.ok(
      noteSegment && low && high && kernel,
      'one of these is missing: noteSegment, low, high, kernel',
    );
    assert.deepEqual([low.physical, low.length], [0n, 2 * GIB]);
    assert.deepEqual([high.physical, high.length], [4n * BigInt(GIB), GIB]);
    assert.deepEqual([kernel.virtual, kernel.physical], [0xffffffff81200000n, 0x1000000n]);
    assert.equal(kernel.offset, low.offset + 0x1000000);
    const byteAt = async (position: number) => {
      const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, position);
      return buffer[0];
    };
    assert.equal(await byteAt(low.offset + 4096), 1);
    assert.equal(await byteAt(high.offset), 2);
    const found = notesOf(head.subarray(noteSegment.offset, noteSegment.offset + noteSegment.length));
    assert.deepEqual(
      found.map(({ name, description }) => [name, description.toString()]),
      [['VMCOREINFO', text.toString()]],
    );
  });

  test('is made of aarch64 and riscv64 machines too', async () => {
    for (const [name, machine, start] of [
      ['virt-aarch64-10.0-mapped-ram', 183, 0x40000000n],
      ['virt-riscv64-10.0-mapped-ram', 243, 0x80000000n],
    ] as const) {
      await convertToElf.convert(await openGolden(name), { output: output(name) });
      const bytes = readFileSync(output(name));
      assert.equal(bytes.readUInt16LE(18), machine);
      assert.equal(segmentsOf(bytes)[1]?.physical, start);
    }
  });
});

describe('mapped-ram', () => {
  test('of a mapped-ram file is the same without stale slots', async () => {
    const name = 'pc-10.0-mapped-ram-live';
    const saved = await openSavedVm(unpack(root, name));
    const { files } = await convertToMappedRam.convert(saved, { output: output('compact') });
    const compact = await openSavedVm(output('compact'));
    assert.equal((await compareSavedVms(saved, compact)).equal, true);
    assert.equal(files[0]?.fileBytes, statSync(path.join(root, name)).size);
    assert.ok(
      (files[0]?.allocatedBytes ?? 0) < statSync(path.join(root, name)).blocks * 512,
      `the value: ${files[0]?.allocatedBytes}`,
    );
    assert.ok(compact instanceof MappedRamImage, String(compact));
    const block = compact.block('pc.ram');
    assert.ok(block, 'there is no block');
    for (const run of block.bitmap.clearRuns()) {
      assert.ok(
        (await compact.readRun(block, run)).every((byte) => byte === 0),
        'a page that should be zero is not',
      );
    }
    await saved[Symbol.asyncDispose]();
    await compact.close();
  });

  test('of a stream holds the same VM', async () => {
    for (const name of ['pc-10.0-stream', 'pc-10.0-stream-xbzrle', 'q35-10.0-stream-virtio-mem']) {
      const saved = await openGolden(name);
      await convertToMappedRam.convert(saved, { output: output(`${name}.img`) });
      await using image = await openSavedVm(output(`${name}.img`));
      assert.deepEqual([image.form, image.complete, image.problems], ['mapped-ram', true, []]);
      assert.equal((await compareSavedVms(saved, image)).equal, true);
    }
  });

  test('is refused for what is not whole', async () => {
    const bytes = goldenBytes('pc-10.0-stream');
    const file = output('cut');
    await using handle = await open(file, 'w');
    await handle.write(bytes.subarray(0, 150_000));
    await using saved = await openSavedVm(file);
    await assert.rejects(
      convertToMappedRam.convert(saved, { output: output('never') }),
      failsWith('FORMAT', /its save did not finish/),
    );
    assert.throws(() => statSync(output('never')), { code: 'ENOENT' });
  });
});
