/** Files of the host that are memory of the machine: UEFI variables, NVDIMMs, memory shared with others. */

import assert from 'node:assert/strict';
import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore/restore.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { planResume, resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const FLASH_BYTES = 128 << 10;
const MEMORY_BYTES = 16 << 20;
const quiet = { onWarning: () => {} };

/** A firmware whose first instruction jumps to itself. */
function idleFirmware(): Buffer {
  const image = Buffer.alloc(FLASH_BYTES);
  image.set([0xeb, 0xfe], FLASH_BYTES - 16);
  return image;
}

describe('files that are memory', needs({ qemu: '10.0', tools: ['qemu-img'] }), () => {
  let folder: string;
  const at = (name: string) => path.join(folder, name);
  before(() => {
    folder = temporaryFolder('memory-files');
    writeFileSync(at('code'), idleFirmware());
  });

  const start = (extraArgs: string[], incoming = false) =>
    startVm({ machine: 'pc,nvdimm=on', guest: 'none', incoming, extraArgs });

  async function savedAndEnded(vm: TestVm): Promise<string> {
    const file = at('vm.mapram');
    await save({ vm: vm.qmpPath, file, force: true, afterwards: 'quit', ...quiet });
    return file;
  }

  async function resumeAndEnd(file: string, options: object = {}): Promise<string[]> {
    const warnings: string[] = [];
    await using _ = await resume({ file, onWarning: (text) => warnings.push(text), ...options });
    return warnings;
  }

  const spellings: [how: string, args: () => string[]][] = [
    [
      '-drive',
      () => [
        ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${at('code')}`],
        ...['-drive', `if=pflash,unit=1,format=raw,file=${at('vars')}`],
      ],
    ],
    [
      '-blockdev',
      () => [
        ...['-blockdev', `driver=file,node-name=c0,filename=${at('code')},read-only=on`],
        ...['-blockdev', `driver=raw,node-name=c,file=c0,read-only=on`],
        ...[
          '-blockdev',
          `{"driver":"raw","node-name":"v","file":{"driver":"file","filename":"${at('vars')}"}}`,
        ],
        ...['-machine', 'pflash0=c,pflash1=v'],
      ],
    ],
    ['-pflash', () => ['-pflash', at('code'), '-pflash', at('vars')]],
  ];
  for (const [how, args] of spellings) {
    test(`UEFI variables by ${how}: resumed again and again, never replaced unasked (R04)`, async () => {
      const variables = Buffer.alloc(FLASH_BYTES, 'variables ');
      const others = Buffer.alloc(FLASH_BYTES, 'other keys ');
      writeFileSync(at('vars'), variables);
      await using vm = await start(args());
      const file = await savedAndEnded(vm);
      await resumeAndEnd(file);
      utimesSync(at('vars'), 1, 1);
      await resumeAndEnd(file);
      writeFileSync(at('vars'), others);
      const refused = failsWith('VM', /UEFI variables in .*vars are not those of .*--allow-changed-disks/);
      await assert.rejects(resume({ file, ...quiet }), refused);
      const command = vm.commandLine.filter((word) => word !== '-S');
      await assert.rejects(resume({ file, command, qmp: at('own.qmp'), ...quiet }), refused);
      assert.deepEqual(readFileSync(at('vars')), others);
      await using clones = await fork({ file, count: 1, ...quiet });
      assert.equal(clones.vms.length, 1);
      assert.deepEqual(readFileSync(at('vars')), others);
      const warnings = await resumeAndEnd(file, { allowChangedDisks: true });
      assert.match(warnings.join(), /UEFI variables/);
      assert.deepEqual(readFileSync(at('vars')), variables);
    });
  }

  test('restore replaces no UEFI variables unless told to (R04)', async () => {
    writeFileSync(at('vars'), Buffer.alloc(FLASH_BYTES, 'variables '));
    const args = spellings[0]?.[1]() ?? [];
    await using vm = await start(args);
    const file = await savedAndEnded(vm);
    const load = async (options: { allowChangedDisks?: boolean }) => {
      await using waiting = await start(args, true);
      const warnings: string[] = [];
      const onWarning = (text: string) => warnings.push(text);
      await restore({ file, vm: waiting.qmpPath, directIo: 'off', onWarning, ...options });
      return warnings.join();
    };
    assert.equal(await load({}), '');
    const others = Buffer.alloc(FLASH_BYTES, 'other keys ');
    writeFileSync(at('vars'), others);
    await assert.rejects(
      load({}),
      failsWith('VM', /UEFI variables in .*vars are not those .*--allow-changed-disks/),
    );
    assert.deepEqual(readFileSync(at('vars')), others);
    assert.match(await load({ allowChangedDisks: true }), /UEFI variables/);
  });

  const devices: [device: string, args: string[]][] = [
    ['nvdimm', ['-m', '64M,slots=2,maxmem=1G']],
    ['ivshmem-plain,master=on', []],
  ];
  for (const [device, args] of devices) {
    test(`${device}: a disk to resume, a file of its own for each clone (failure 7)`, async () => {
      const saved = Buffer.alloc(MEMORY_BYTES, 'saved ');
      const later = Buffer.alloc(MEMORY_BYTES, 'later ');
      writeFileSync(at('memory'), saved);
      const backend = `memory-backend-file,id=m0,share=on,size=16M,mem-path=${at('memory')}`;
      await using vm = await start([...args, '-object', backend, '-device', `${device},memdev=m0`]);
      const file = await savedAndEnded(vm);
      await resumeAndEnd(file);
      writeFileSync(at('memory'), later);
      await assert.rejects(
        planResume({ file, ...quiet }),
        failsWith('VM', /persistent memory in .*memory are not those .*--allow-changed-disks/),
      );
      await using clones = await fork({ file, count: 2, ...quiet });
      for (const { directory } of clones.vms) {
        assert.deepEqual(readFileSync(path.join(directory, 'm0.memory')), saved);
      }
      assert.deepEqual(readFileSync(at('memory')), later);
      const warnings = await resumeAndEnd(file, { allowChangedDisks: true });
      assert.match(warnings.join(), /persistent memory/);
      assert.deepEqual(readFileSync(at('memory')), saved);
    });
  }

  test('virtio-pmem, which QEMU does not save: a disk, of which each clone gets a copy (failure 7)', async () => {
    const contents = Buffer.alloc(MEMORY_BYTES, 'contents ');
    writeFileSync(at('memory'), contents);
    const backend = `memory-backend-file,id=m0,share=on,size=16M,mem-path=${at('memory')}`;
    const device = ['-device', 'virtio-pmem-pci,memdev=m0'];
    await using vm = await start(['-m', '64M,maxmem=1G', '-object', backend, ...device]);
    const file = await savedAndEnded(vm);
    await using clones = await fork({ file, count: 1, ...quiet });
    const clone = path.join(path.dirname(clones.vms[0]?.facts.qmp ?? ''), 'm0.memory');
    assert.deepEqual(readFileSync(clone), contents);
    utimesSync(at('memory'), 1, 1);
    await assert.rejects(planResume({ file, ...quiet }), failsWith('VM', /disks have changed .*memory was/));
  });
});
