import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine } from '../../src/launch/command-line.js';
import { type MemoryFile, memoryFiles, replaceSharedBackends } from '../../src/launch/memory-files.js';

const NAMES = ['system.flash0', 'system.flash1', 'virt.flash1', 'nv0', '0000:00:03.0/nv0', '/objects/nv0'];

const described = (args: string[]) =>
  memoryFiles(parseCommandLine(args)).map(({ isBlock, ...file }: MemoryFile) => ({
    ...file,
    blocks: NAMES.filter(isBlock),
  }));

test('flash drives without a number take the first that is free', () => {
  const files = described([
    ...['-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=code.fd'],
    ...['-drive', 'if=pflash,format=qcow2,file=vars.fd'],
    ...['-drive', 'if=virtio,file=disk.img'],
  ]);
  assert.deepEqual(files, [
    { kind: 'flash', path: 'code.fd', offset: 0, format: 'raw', readOnly: true, blocks: ['system.flash0'] },
    {
      kind: 'flash',
      path: 'vars.fd',
      offset: 0,
      format: 'qcow2',
      readOnly: false,
      blocks: ['system.flash1', 'virt.flash1'],
    },
  ]);
});

test('flash nodes are followed down to their files', () => {
  const files = described([
    ...['-blockdev', 'driver=file,node-name=f,filename=vars.fd'],
    ...['-blockdev', 'driver=qcow2,node-name=v,file=f'],
    ...['-machine', 'q35,pflash1=v,pflash0=none-such'],
  ]);
  assert.deepEqual(
    files.map(({ path, format, readOnly }) => [path, format, readOnly]),
    [['vars.fd', 'qcow2', false]],
  );
});

test('persistent memory is what such a device shares with a file; other backends are RAM', () => {
  const args = [
    ...['-object', 'memory-backend-file,id=nv0,share=on,size=1G,mem-path=nv.img,offset=4096'],
    ...['-object', 'memory-backend-file,id=nv1,share=off,size=1G,mem-path=private.img'],
    ...['-object', 'memory-backend-file,id=ram,share=on,size=1G,mem-path=/dev/shm/ram'],
    ...['-device', 'nvdimm,memdev=nv0', '-device', 'nvdimm,memdev=nv1', '-device', 'pc-dimm,memdev=ram'],
  ];
  assert.deepEqual(
    described(args).map(({ path, offset, blocks }) => [path, offset, blocks]),
    [['nv.img', 4096, ['nv0', '0000:00:03.0/nv0', '/objects/nv0']]],
  );
  const moved = replaceSharedBackends(parseCommandLine(args), ({ id }) => `clone/${id}`);
  assert.deepEqual(
    moved.slice(0, 3).map(({ value }) => value),
    [
      'memory-backend-file,id=nv0,share=on,size=1G,mem-path=clone/nv0',
      args[3],
      'memory-backend-file,id=ram,share=on,size=1G,mem-path=clone/ram',
    ],
  );
});
