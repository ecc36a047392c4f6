/** Saved VMs on a disk with a bad sector in their memory: what loads them says where it is. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { save } from '../../src/snapshot/save/save.js';
import { runCli } from '../cli/run-cli.js';
import { withBadSectors } from '../support/bad-sectors.js';
import { needs } from '../support/environment.js';
import { needsFuse } from '../support/fuse.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { commandIn } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('on a disk with a bad sector', { ...needs({ qemu: '10.0', guest: 'tiny' }), ...needsFuse() }, () => {
  const folder = temporaryFolder('bad-sectors-vm');
  const file = path.join(folder, 'vm');
  let vm: TestVm;
  let offset = 0;
  let disk: Awaited<ReturnType<typeof withBadSectors>>;

  before(async () => {
    vm = await startVm({ memory: 'shared-file' });
    await save({ vm: vm.qmpPath, file, method: 'shared' });
    await using image = await MappedRamImage.open(file);
    const block = image.block('pc.ram');
    assert.ok(block, 'there is no block');
    const [run] = image.runs(block, 1);
    offset = block.pagesOffset + (run?.first ?? 0) * block.pageSize;
    disk = await withBadSectors(file, path.join(folder, 'mount'), { start: offset, end: offset + 1 });
  });
  after(async () => {
    await disk[Symbol.asyncDispose]();
    await vm[Symbol.asyncDispose]();
  });

  for (const method of ['native', 'stream', 'shared'] as const) {
    test(`restore by ${method} fails with the place in the file (R07)`, async () => {
      await using incoming = await startVm({ memory: 'shared-file', incoming: true });
      const { code, result } = await runCli([
        ...['restore', disk.file, incoming.qmpPath, '--method', method, '--json'],
      ]);
      const error = result.error as { code: string; message: string; offset: number };
      assert.deepEqual([code, error.code, error.offset], [1, 'IO', offset], error.message);
      assert.match(error.message, new RegExp(`at offset ${offset}\\b`));
      assert.match(error.message, /i\/o error/);
    });
  }

  test('resume --verify reports the place in the file and ends the VM where asked to (R07)', async () => {
    const command = commandIn(vm, folder);
    const { code, stderr } = await runCli([
      ...['resume', disk.file, '--verify', '--on-damage', 'quit', '--', ...command],
    ]);
    assert.equal(code, 1, stderr);
    assert.match(
      stderr,
      new RegExp(`pc\\.ram: .* cannot be read from the disk, where it is at offset ${offset} `),
    );
  });
});
