/** Files of real VMs: damage is named by block and guest address, and a sealed, signed file is one for stock QEMU. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { assertQemuLoads, savedGuest } from '../support/save-expectations.js';

/** Inverts one bit of the page at `offset` of a block; one of the two NUMA nodes has data there. */
async function flipIn(file: string, idstr: string): Promise<number> {
  await using image = await MappedRamImage.open(file);
  const block = image.block(idstr);
  assert.ok(block, `no block ${idstr}`);
  const last = [...image.runs(block)].at(-1);
  assert.ok(last, `${idstr} is empty`);
  const offset = (last.first + last.count - 1) * block.pageSize;
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, block.pagesOffset + offset);
  writeSync(fd, Buffer.of((byte[0] as number) ^ 1), 0, 1, block.pagesOffset + offset);
  closeSync(fd);
  return offset;
}

describe('a damaged page is named by block and guest address', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const cases = [
    { method: 'shared', memory: 'shared-file', blocks: { 'pc.ram': 0 } },
    { method: 'native', memory: 'anonymous', blocks: { 'pc.ram': 0 } },
    { method: 'native', memory: 'numa-anonymous', blocks: { node0: 0, node1: 32 << 20 } },
    { method: 'stream', memory: 'numa-anonymous', blocks: { node0: 0, node1: 32 << 20 } },
    { method: 'shared', memory: 'numa-shared-files', blocks: { node0: 0, node1: 32 << 20 } },
  ] as const;
  for (const { method, memory, blocks } of cases) {
    test(`saved by ${method}, ${memory}`, async () => {
      await using vm = await startVm({ memory, fillMiB: 48 });
      for (const [idstr, start] of Object.entries(blocks)) {
        const file = path.join(vm.folder, 'image');
        await save({ vm: vm.qmpPath, file, method, force: true });
        assert.deepEqual((await verify({ file })).problems, []);
        const damaged = await flipIn(file, idstr);
        const { ok, problems } = await verify({ file });
        assert.equal(ok, false);
        const [{ kind, where, guestAddress = -1, length = 0 } = {}, ...others] = problems;
        assert.deepEqual([kind, where, others], ['contents', idstr, []]);
        const address = start + damaged;
        assert.ok(
          guestAddress <= address && address < guestAddress + length,
          `${address} of the guest is not in ${length} bytes from ${guestAddress}`,
        );
        assert.match(
          problems[0]?.message ?? '',
          new RegExp(`guest address 0x${guestAddress.toString(16)}\\b`),
        );
      }
    });
  }
});

describe('a sealed and signed file', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const method of ['shared', 'native', 'stream'] as const) {
    test(`saved by ${method} is loaded by QEMU itself`, async () => {
      await using vm = await startVm({ memory: 'shared-file' });
      const { privateKey } = generateKeyPairSync('ed25519');
      const signingKey = path.join(vm.folder, 'key.pem');
      writeFileSync(signingKey, privateKey.export({ format: 'pem', type: 'pkcs8' }));
      const file = path.join(vm.folder, 'image');
      const { signed, checksums } = await save({
        vm: vm.qmpPath,
        file,
        method,
        sign: signingKey,
        afterwards: 'stop',
      });
      assert.deepEqual([signed, checksums], [true, 'sha256-128']);
      assert.equal((await verify({ file })).signature, 'valid');
      await assertQemuLoads(file, savedGuest(vm), { channels: 4, directIo: true });
    });
  }
});
