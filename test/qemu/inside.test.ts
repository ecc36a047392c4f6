/** What mapram finds in files against what the QEMU that wrote them, and gdb, say. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { compareSavedVms } from '../../src/analysis/compare.js';
import { devicesNamed, fieldOf } from '../../src/analysis/device-fields.js';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { convertToElf } from '../../src/snapshot/convert/convert-elf.js';
import { convertToMappedRam } from '../../src/snapshot/convert/convert-mapped-ram.js';
import { save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs, repositoryRoot } from '../support/environment.js';
import { loadMappedRam, saveMappedRam, saveStream } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';

async function monitor(vm: TestVm, line: string): Promise<string> {
  return vm.qmp.execute<string>('human-monitor-command', { 'command-line': line });
}

/** RAM as `info mtree -f` lists it: `0-7fffffff pc.ram @0`. */
async function flatView(vm: TestVm): Promise<string[]> {
  const lines = (await monitor(vm, 'info mtree -f')).matchAll(
    /^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio 0, ram\): (\S+\.ram)(?: @([0-9a-f]+))?/gm,
  );
  const short = (digits = '0') => BigInt(`0x${digits}`).toString(16);
  return [
    ...new Set(
      [...lines].map(
        ([, start, end, name, offset]) => `${short(start)}-${short(end)} ${name} @${short(offset)}`,
      ),
    ),
  ];
}

describe('a saved VM', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const [machine, memoryMiB] of [
    ['pc', 3584],
    ['q35', 2816],
    ['microvm', 3200],
  ] as const) {
    test(`has its memory where ${machine} of ${memoryMiB} MiB has it`, async () => {
      await using vm = await startVm({ machine, memoryMiB, guest: 'none', paused: true });
      const file = path.join(vm.folder, 'image');
      await saveMappedRam(vm, file);
      await using saved = await openSavedVm(file);
      const listed = await flatView(vm);
      for (const { idstr, start, length, blockOffset } of saved.guestMap.regions) {
        if (!idstr.endsWith('.ram')) continue;
        // The BIOS lies over some of the first MiB, so only the ends are to be found.
        const end = (start + length - 1).toString(16);
        const found = listed.find((line) => line.includes(`-${end} ${idstr} `));
        assert.ok(found, `${idstr} ends at ${end}: ${listed.join(', ')}`);
        const [, from = '', offset = ''] = /^([0-9a-f]+)-.* @([0-9a-f]+)$/.exec(found) ?? [];
        assert.equal(Number.parseInt(from, 16) - Number.parseInt(offset, 16), start - blockOffset);
      }
    });
  }

  test('that mapram saved has NUMA nodes and plugged memory where the VM had them', async () => {
    const extraArgs = [
      ...['-m', '2816M,slots=2,maxmem=8G'],
      ...['-object', 'memory-backend-ram,id=dimm,size=64M', '-device', 'pc-dimm,memdev=dimm'],
      ...['-object', 'memory-backend-ram,id=plug,size=64M'],
      ...['-device', 'virtio-mem-pci,memdev=plug,requested-size=0'],
    ];
    const machine = { machine: 'q35', memoryMiB: 2816, memory: 'numa-anonymous', guest: 'none' } as const;
    await using vm = await startVm({ ...machine, paused: true, extraArgs });
    const file = path.join(vm.folder, 'image');
    await save({ vm: vm.qmpPath, file });
    await using saved = await openSavedVm(file);
    const addresses = ['node0', 'node1', 'dimm'].map((idstr) => saved.guestMap.addressOf(idstr, 4096));
    // Two GiB, then the hole; plugged memory starts at the next GiB.
    assert.deepEqual(addresses, [0x1000, 0x58001000, 0x140001000]);
    assert.equal(saved.guestMap.addressOf('node1', 0x28000000), 0x100000000);
    const [plug] = saved.guestMap.regions.filter(({ idstr }) => idstr.endsWith('/plug'));
    const listed = await monitor(vm, 'info mtree -f');
    const line = /^\s+([0-9a-f]{16})-[0-9a-f]{16} \(prio 0, ram\): plug/m.exec(listed);
    // Nothing of it is plugged yet, but it has its place.
    assert.equal(plug?.start, Number.parseInt(line?.[1] ?? '144000000', 16));
  });

  test('is the same as a stream and as an image', async () => {
    await using vm = await startVm({ machine: 'q35' });
    await vm.stop();
    const [image, stream] = [path.join(vm.folder, 'image'), path.join(vm.folder, 'stream')];
    await saveMappedRam(vm, image);
    await using before = await openSavedVm(image);
    await vm.cont();
    await vm.stop();
    await saveStream(vm, stream);
    await using after = await openSavedVm(stream);
    const { blocks, devices } = await compareSavedVms(before, after);
    assert.ok(
      blocks.every(({ status }) => status === 'equal' || status === 'different'),
      'a block is only in one file',
    );
    assert.ok(
      devices.some(({ idstr }) => idstr === 'timer'),
      'time has gone on',
    );
    assert.equal(after.guestMap.addressOf('pc.ram', 4096), 4096);
    const registers = await monitor(vm, 'info registers');
    const [, eip = ''] = /\b[ER]IP=([0-9a-f]+)/.exec(registers) ?? [];
    const [cpu] = devicesNamed(after, 'cpu');
    assert.ok(cpu, 'there is no cpu');
    assert.equal(fieldOf(cpu, 'env.eip'), BigInt(`0x${eip}`));
  });
});

describe('a converted file', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const form of ['stream', 'mapped-ram'] as const) {
    test(`from ${form} to mapped-ram is loaded by QEMU, and its guest goes on`, async () => {
      await using source = await startVm({ machine: 'q35' });
      await source.stop();
      const [before, converted] = [path.join(source.folder, 'before'), path.join(source.folder, 'converted')];
      await (form === 'stream' ? saveStream(source, before) : saveMappedRam(source, before));
      await using saved = await openSavedVm(before);
      await convertToMappedRam.convert(saved, { output: converted });
      await using vm = await startVm({ machine: 'q35', incoming: true });
      await loadMappedRam(vm, converted);
      await vm.cont();
      await vm.console.waitForCounterAbove(source.console.counter);
    });
  }
});

/** The first MiB of a file, as text. */
function readStart(file: string): string {
  const fd = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(2 ** 20);
    return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}

describe('an ELF core', needs({ qemu: '10.0', guest: 'linux', tools: ['gdb'] }), () => {
  test("shows gdb the registers, the banner and the processes of the guest's Linux", async () => {
    await using vm = await startBootedVm({ machine: 'q35' });
    await vm.stop();
    const file = path.join(vm.folder, 'image');
    await saveMappedRam(vm, file);
    const registers = await monitor(vm, 'info registers');
    const core = path.join(vm.folder, 'core');
    await using saved = await openSavedVm(file);
    const { notes } = await convertToElf.convert(saved, { output: core });
    assert.match(notes[0] ?? '', /^1 cpu, with VMCOREINFO$/);
    const gdb = (...commands: string[]) =>
      execFileSync('gdb', ['-nx', '-batch', ...commands.flatMap((command) => ['-ex', command]), '-c', core], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    for (const name of ['RIP', 'RSP', 'RBX']) {
      const [, value = ''] = new RegExp(`\\b${name}=([0-9a-f]{16})`).exec(registers) ?? [];
      const shown = gdb(`p/x $${name.toLowerCase()}`);
      assert.ok(shown.trim().endsWith(`= 0x${BigInt(`0x${value}`).toString(16)}`), `${name}: ${shown}`);
    }
    // The kernel's image is the last segment; its banner is among the read-only data.
    const found = gdb('maintenance info sections').match(/0x(ffffffff[0-9a-f]{8})->0x(ffffffff[0-9a-f]{8})/);
    assert.ok(found, 'there is a segment at the kernel’s virtual address');
    const banner = gdb(
      `find /b1 0x${found[1]}, +0x2800000, 'L','i','n','u','x',' ','v','e','r','s','i','o','n',' ','6'`,
    );
    const [, address] = /^(0x[0-9a-f]+)/m.exec(banner) ?? [];
    assert.match(gdb(`x/s ${address}`), /"Linux version 6\.\d+\.\d+/);

    // VMCOREINFO is among the notes at the start.
    const notesText = readStart(core);
    const [, tables = ''] = /SYMBOL\(swapper_pg_dir\)=([0-9a-f]+)/.exec(notesText) ?? [];
    const levels = notesText.includes('NUMBER(pgtable_l5_enabled)=1') ? 5 : 4;
    const settings = [
      `PAGE_TABLES, LEVELS = 0x${tables}, ${levels}`,
      `KERNEL_START, KERNEL_END = 0x${found[1]}, 0x${found[2]}`,
    ].map((line) => `python ${line}`);
    const script = path.join(repositoryRoot, 'test', 'qemu', 'processes-of-linux.py');
    const [, processes = ''] = /^processes: (.*)$/m.exec(gdb(...settings, `source ${script}`)) ?? [];
    const [idle, first, second] = processes.split(' ');
    assert.deepEqual([idle, first, second], ['swapper/0', 'init', 'kthreadd']);
  });
});
