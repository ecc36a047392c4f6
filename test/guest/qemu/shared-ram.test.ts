/** A monitor of somebody else that lies about the memory of its process, which this user may write to and that process may not. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { after, mock, test } from 'node:test';
import { QemuVm } from '../../../src/guest/qemu/qemu-vm.js';
import { openSharedRam } from '../../../src/guest/qemu/shared-ram.js';
import { releaseFiles } from '../../../src/io/file/open-file.js';
import { MemoryMap } from '../../../src/io/memory/memory-map.js';
import { readProcessMaps } from '../../../src/io/process/process-maps.js';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { restore } from '../../../src/snapshot/restore/restore.js';
import { Folder } from '../../manifest/sample.js';
import { writeBuiltinImage } from '../../snapshot/builtin-image.js';
import { failsWith } from '../../support/fails-with.js';
import { ERROR, FakeQemu } from '../../support/fake-qemu.js';

const folder = new Folder();
after(() => folder[Symbol.dispose]());

interface LyingQemu extends AsyncDisposable {
  qemu: FakeQemu;
  /** The file that it calls its memory. */
  target: string;
}

/** A QEMU with the blocks of `image`, the first of which is said to be a file that it has mapped so. */
async function lyingQemu(
  image: string,
  { writable, hva }: { writable: boolean; hva: boolean },
): Promise<LyingQemu> {
  await using opened = await MappedRamImage.open(image);
  const { blocks, configuration } = opened;
  const [memory] = blocks;
  assert.ok(memory, 'there is no memory');
  const target = folder.file(`target-${writable}-${hva}`);
  writeFileSync(target, Buffer.alloc(memory.usedLength, 'R'));
  const fd = openSync(target, writable ? 'r+' : 'r');
  const map = MemoryMap.open({ fd, offset: 0, length: memory.usedLength, writable });
  closeSync(fd);
  const start = readProcessMaps(process.pid).find(({ path }) => path === target)?.start;
  const table = blocks.map(({ idstr, usedLength }, index) => {
    const address = index === 0 ? start : 4096n;
    const columns = [0, usedLength, usedLength, ...(hva ? [address ?? 0n] : [])];
    return ` ${idstr} 4 KiB ${columns.map((value) => `0x${value.toString(16)}`).join(' ')}\n`;
  });
  const properties: Readonly<Record<string, unknown>> = {
    type: 'memory-backend-file',
    share: true,
    'mem-path': target,
    offset: 0,
  };
  const qemu = await FakeQemu.start({
    version: [10, 0],
    migrate: () => {},
    answer(execute, args) {
      if (execute === 'query-status') return { status: 'inmigrate', running: false };
      if (execute === 'human-monitor-command')
        return ` Block Name PSize Offset Used Total\n${table.join('')}`;
      if (/^(query-(block|memory-devices)|qom-list(-properties)?)$/.test(execute)) return [];
      if (execute !== 'qom-get') return undefined;
      if (args.path === '/machine') return `${configuration.machine}-machine`;
      return args.path === `/objects/${memory.idstr}` ? properties[String(args.property)] : ERROR;
    },
  });
  return {
    qemu,
    target,
    async [Symbol.asyncDispose]() {
      map[Symbol.dispose]();
      await qemu[Symbol.asyncDispose]();
    },
  };
}

for (const hva of [true, false]) {
  const version = hva ? 'a QEMU that tells addresses' : 'an older QEMU';
  test(`memory of ${version} is opened for loading where its process may write to it`, async () => {
    const image = folder.file('vm.mapram');
    await writeBuiltinImage(image);
    await using lying = await lyingQemu(image, { writable: true, hva });
    await using vm = await QemuVm.connect(lying.qemu.qmpPath);
    const { opened, missing } = await openSharedRam(vm, process.pid, 'load');
    releaseFiles(opened.map(({ fd }) => fd));
    assert.deepEqual([opened.map(({ path }) => path), missing], [[lying.target], []]);
  });

  test(`nothing is loaded into a file that ${version} could only read (F1)`, async () => {
    const image = folder.file('vm.mapram');
    await writeBuiltinImage(image);
    await using lying = await lyingQemu(image, { writable: false, hva });
    {
      await using vm = await QemuVm.connect(lying.qemu.qmpPath);
      const { opened, missing } = await openSharedRam(vm, process.pid, 'load');
      assert.deepEqual([opened.length, missing.length], [0, 1]);
    }
    // As if the program of this process were called like a QEMU.
    const { mock: asked } = mock.method(QemuVm.prototype, 'peerPid', () => process.pid);
    await assert.rejects(
      restore({ file: image, vm: lying.qemu.qmpPath, method: 'shared' }),
      failsWith('UNSUPPORTED', /none of its memory is shared/),
    );
    // A stream then, where that file is seen to be no fresh memory, or QEMU's own load; this one takes neither.
    await assert.rejects(
      restore({ file: image, vm: lying.qemu.qmpPath }),
      failsWith('MIGRATION', hva ? /connecting to the VM at/ : /with add-fd: what it answers/),
    );
    assert.ok(asked.callCount() > 0, 'QEMU was not asked');
    asked.restore();
    assert.ok(
      readFileSync(lying.target).every((byte) => byte === 0x52),
      'the file of another user was written to',
    );
  });
}
