import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MapramError, type MapramErrorCode } from '../../src/errors.js';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { resumeCommandLine, type SnapshotShape } from '../../src/launch/resume-command-line.js';

const GIB = 2 ** 30;
const SNAPSHOT: SnapshotShape = {
  file: '/snap/vm,1.mapram',
  machine: 'pc-q35-10.0',
  blocks: [
    { idstr: 'pc.ram', usedLength: GIB, pagesOffset: 0x100000 },
    { idstr: '/rom@etc/acpi/tables', usedLength: 0x20000, pagesOffset: 0x40200000 },
    { idstr: 'pc.bios', usedLength: 0x40000, pagesOffset: 0x40300000 },
    { idstr: '0000:00:02.0/vga.vram', usedLength: 16 * 2 ** 20, pagesOffset: 0x40400000 },
  ],
  processors: 2,
};
const MAPPED =
  'memory-backend-file,id=pc.ram,size=1073741824,mem-path=/snap/vm,,1.mapram,offset=1048576,share=off,readonly=on,rom=off';

function rewrite(args: string, snapshot = SNAPSHOT, stayPaused = false): string[] {
  return formatCommandLine(
    resumeCommandLine(parseCommandLine(args.split(' ')), snapshot, { stayPaused }).options,
  );
}

function refusal(args: string, code: MapramErrorCode, pattern: RegExp, snapshot = SNAPSHOT): void {
  assert.throws(
    () => rewrite(args, snapshot),
    (error) => {
      assert.ok(error instanceof MapramError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, pattern);
      return true;
    },
  );
}

describe('resumeCommandLine', () => {
  test('gives RAM that has only a size an object of the name in the file', () => {
    assert.deepEqual(rewrite('-m 1G -smp 2 -nodefaults'), [
      '-machine',
      'pc-q35-10.0,memory-backend=pc.ram',
      '-object',
      MAPPED,
      '-m',
      '1G',
      '-smp',
      '2',
      '-nodefaults',
      '-incoming',
      'defer',
    ]);
  });

  test('takes the RAM of the machine, not a larger block of a device, for -m (guests 6)', () => {
    const virtioMem = { idstr: '0000:00:01.0/vm0', usedLength: 2 * GIB, pagesOffset: 0x4200_0000 };
    const flash = { idstr: 'virt.flash0', usedLength: 2 * GIB, pagesOffset: 0x4200_0000 };
    for (const other of [virtioMem, flash]) {
      const snapshot = { ...SNAPSHOT, blocks: [other, ...SNAPSHOT.blocks] };
      assert.ok(rewrite('-m 1G -smp 2', snapshot).includes(MAPPED), 'the memory is not mapped from the file');
    }
  });

  test('takes the block that the file names as RAM of the machine, and no other (guests 6)', () => {
    const main = { idstr: 'odd', usedLength: GIB, pagesOffset: 0x100000 };
    const snapshot = { ...SNAPSHOT, blocks: [main, { ...main, idstr: 'pc.ram' }], defaultRamId: 'odd' };
    assert.ok(
      rewrite('-m 1G -smp 2', snapshot).includes(MAPPED.replace('pc.ram', 'odd')),
      'the memory is not called as in the file',
    );
    refusal('-m 1G -smp 2', 'VM', /no memory of those names/, { ...snapshot, defaultRamId: 'other' });
  });

  test('maps more memory than the host has, and keeps what the user says of that (guests 11)', () => {
    const large = { ...SNAPSHOT, reserve: false };
    assert.ok(
      rewrite('-m 1G -smp 2', large).includes(`${MAPPED},reserve=off`),
      'memory larger than the host is reserved',
    );
    const own = (reserve: string) =>
      `-m 1G -smp 2 -machine memory-backend=pc.ram -object memory-backend-ram,id=pc.ram,size=1G,reserve=${reserve}`;
    assert.ok(
      rewrite(own('on'), large).includes(`${MAPPED},reserve=on`),
      'reserve=on of the command line was lost',
    );
    assert.ok(
      rewrite(own('off')).includes(`${MAPPED},reserve=off`),
      'reserve=off of the command line was lost',
    );
  });

  test('leaves out what would bring another state, and says what is to be done about it', () => {
    const words = rewrite(
      '-S -m 1024 -smp cpus=2 -incoming tcp:0:1 -loadvm a -daemonize -mem-path /dev/shm -mem-prealloc -no-reboot',
    );
    assert.deepEqual(words.slice(4), ['-m', '1024', '-smp', 'cpus=2', '-no-reboot', '-incoming', 'defer']);
  });

  test('keeps a guest stopped only when asked to', () => {
    assert.equal(rewrite('-m 1G -smp 2', SNAPSHOT, true).at(-1), '-S');
  });

  test('takes the saved machine type in place of an alias and keeps all properties of the machine', () => {
    const [, machine] = rewrite('-M q35,accel=tcg -machine usb=off -m 1G -smp 2');
    assert.equal(machine, 'pc-q35-10.0,accel=tcg,usb=off,memory-backend=pc.ram');
  });

  test("rewrites the machine's own memory object and keeps what still has a meaning", () => {
    const words = rewrite(
      '-machine q35,memory-backend=pc.ram -object memory-backend-memfd,id=pc.ram,size=1G,share=on,prealloc=on,hugetlb=on,merge=off -m 1G -smp 2',
    );
    assert.deepEqual(words.slice(0, 4), [
      '-machine',
      'pc-q35-10.0,memory-backend=pc.ram',
      '-object',
      `${MAPPED},merge=off`,
    ]);
  });

  test('rewrites an object in JSON', () => {
    const object =
      '{"qom-type":"memory-backend-ram","id":"pc.ram","size":1073741824,"policy":"bind","host-nodes":[0]}';
    const words = rewrite(`-machine q35,memory-backend=pc.ram -object ${object} -smp 2`);
    assert.equal(words[3], `${MAPPED},policy=bind,host-nodes.0=0`);
  });

  test('maps each node of NUMA memory', () => {
    const snapshot: SnapshotShape = {
      ...SNAPSHOT,
      blocks: [
        { idstr: 'node0', usedLength: GIB / 2, pagesOffset: 0x100000 },
        { idstr: 'node1', usedLength: GIB / 2, pagesOffset: 0x20200000 },
      ],
    };
    const words = rewrite(
      '-m 1G -smp 2 -object memory-backend-ram,id=node0,size=512M -numa node,memdev=node0 -object memory-backend-ram,id=node1,size=512M -numa node,memdev=node1',
      snapshot,
    );
    assert.equal(words[1], 'pc-q35-10.0');
    const objects = words.filter((word) => word.startsWith('memory-backend-file'));
    assert.deepEqual(
      objects.map((object) => /id=(\w+),.*offset=(\d+)/.exec(object)?.slice(1)),
      [
        ['node0', String(0x100000)],
        ['node1', String(0x20200000)],
      ],
    );
  });

  test('maps DIMMs beside the main memory, and no memory of other devices', () => {
    const snapshot: SnapshotShape = {
      ...SNAPSHOT,
      blocks: [...SNAPSHOT.blocks, { idstr: 'dimm', usedLength: 2 * GIB, pagesOffset: 0x50000000 }],
    };
    const { mapped, options } = resumeCommandLine(
      parseCommandLine(
        '-m 1G,slots=2,maxmem=8G -smp 2 -object memory-backend-ram,id=dimm,size=2G -device pc-dimm,memdev=dimm -object memory-backend-file,id=shm,size=1M,mem-path=/s,share=on -device ivshmem-plain,memdev=shm'.split(
          ' ',
        ),
      ),
      snapshot,
    );
    assert.deepEqual(mapped, ['dimm', 'pc.ram']);
    assert.ok(
      options.some(({ value }) => value === 'memory-backend-file,id=shm,size=1M,mem-path=/s,share=on'),
      'the option of another back end has changed',
    );
  });

  test('says how objects are called in the streams of old machine types', () => {
    const old = { ...SNAPSHOT, machine: 'pc-q35-3.1' };
    assert.match(rewrite('-m 1G -smp 2', old)[3] ?? '', /,x-use-canonical-path-for-ramblock-id=off$/);
    const blocks = SNAPSHOT.blocks.map((block) =>
      block.idstr === 'pc.ram' ? { ...block, idstr: '/objects/mem' } : block,
    );
    const words = rewrite(
      '-machine q35,memory-backend=mem -object memory-backend-ram,id=mem,size=1G -smp 2',
      { ...old, blocks },
    );
    assert.match(words[3] ?? '', /^memory-backend-file,id=mem,.*,x-use-canonical-path-for-ramblock-id=on$/);
  });

  test('counts processors as QEMU does', () => {
    for (const smp of [
      '2',
      'cpus=2,maxcpus=8',
      'sockets=1,cores=2,threads=1',
      'maxcpus=2',
      '1 -device max-x86_64-cpu,core-id=1',
    ]) {
      assert.doesNotThrow(() => rewrite(`-m 1G -smp ${smp}`), smp);
    }
    refusal('-m 1G', 'VM', /2 CPUs, the command line 1; give -smp 2/);
    refusal('-m 1G -smp sockets=2,cores=2', 'VM', /the command line 4/);
  });

  const refused: [string, string, MapramErrorCode, RegExp][] = [
    [
      'another machine',
      '-machine pc -m 1G -smp 2',
      'VM',
      /machine type pc-q35-10.0, the command line says pc;/,
    ],
    ['another version', '-machine pc-q35-9.0 -m 1G -smp 2', 'VM', /give -machine pc-q35-10.0/],
    ['less RAM', '-m 512M -smp 2', 'VM', /1024 MiB of RAM, the command line 512 MiB; give -m 1024M/],
    ['no RAM size', '-smp 2', 'VM', /the command line 128 MiB/],
    [
      'a memory object of another name',
      '-machine q35,memory-backend=m0 -object memory-backend-ram,id=m0,size=1G -smp 2',
      'VM',
      /RAM block m0, the file has pc\.ram, pc\.bios/,
    ],
    [
      'a memory object of another size',
      '-machine q35,memory-backend=pc.ram -object memory-backend-ram,id=pc.ram,size=2G -smp 2',
      'VM',
      /give size=1073741824/,
    ],
    ['a missing memory object', '-machine q35,memory-backend=pc.ram -smp 2', 'VM', /no -object/],
    ['vhost-user', '-m 1G -smp 2 -device vhost-user-fs-pci,chardev=c', 'UNSUPPORTED', /use "mapram restore"/],
    ['descriptors', '-m 1G -smp 2 -netdev tap,id=n,vhost=on,vhostfd=12', 'UNSUPPORTED', /descriptor/],
    ['descriptor sets', '-m 1G -smp 2 -drive file=/dev/fdset/1', 'UNSUPPORTED', /descriptor/],
  ];
  for (const [what, args, code, pattern] of refused) {
    test(`refuses ${what}`, () => refusal(args, code, pattern));
  }

  test('refuses RAM by size where the file has memory objects', () => {
    const blocks = [
      { idstr: 'node0', usedLength: GIB / 2, pagesOffset: 0x100000 },
      { idstr: 'node1', usedLength: GIB / 2, pagesOffset: 0x20200000 },
    ];
    refusal('-m 1G -smp 2', 'VM', /RAM blocks node0, node1/, { ...SNAPSHOT, blocks });
  });
});
