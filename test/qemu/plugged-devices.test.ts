/** Devices that were plugged into a running QEMU come back with it. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { QemuVm } from '../../src/guest/qemu/qemu-vm.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type VmOptions } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const options: VmOptions = {
  guest: 'none',
  machine: 'pc',
  extraArgs: ['-m', '64M,maxmem=1G,slots=2', '-smp', '1,maxcpus=2'],
};

describe('devices plugged in after the start', needs({ qemu: '10.0' }), () => {
  let folder: string;
  let file: string;
  /** Of the sockets that the recorded command line names. */
  let sockets: string;
  const warnings: string[] = [];

  before(async () => {
    folder = temporaryFolder('plugged');
    file = path.join(folder, 'vm.mapram');
    await using vm = await startVm(options);
    await vm.qmp.execute('object-add', { 'qom-type': 'memory-backend-ram', id: 'more', size: 128 << 20 });
    await vm.qmp.execute('device_add', { driver: 'pc-dimm', id: 'module', memdev: 'more' });
    const cpu = { driver: 'max-x86_64-cpu', id: 'second', 'socket-id': 0, 'core-id': 1, 'thread-id': 0 };
    await vm.qmp.execute('device_add', cpu);
    await vm.qmp.execute('device_add', { driver: 'virtio-rng-pci', id: 'random', addr: '0x9' });
    await save({ vm: vm.qmpPath, file, onWarning: (warning) => warnings.push(warning) });
    sockets = vm.folder;
  });
  after(() => {
    killProcessesWith(folder);
    for (const made of [folder, sockets]) rmSync(made, { recursive: true, force: true });
  });

  test('are named when the VM is saved (guests 3.2)', () => {
    const [warning = ''] = warnings;
    assert.match(warning, /plugged in after the VM was started/);
    for (const part of [
      /-object memory-backend-ram,id=more,size=134217728,share=off/,
      /-device pc-dimm,id=module,.*memdev=more/,
      /-device max-x86_64-cpu,id=second,.*core-id=1/,
      /-device virtio-rng-pci,id=random,bus=pci\.0,addr=9\.0/,
    ])
      assert.match(warning, part);
  });

  test('are added to the recorded command line when it is resumed (guests 3.2)', async () => {
    mkdirSync(sockets);
    await using resumed = await resume({ file, qmp: path.join(sockets, 'own.qmp') });
    assert.equal(resumed.facts.runState, 'running');
    await using vm = await QemuVm.connect(resumed.facts.qmp);
    assert.equal((await vm.client.execute('query-cpus-fast')).length, 2);
    assert.equal((await vm.ramBlocks()).find(({ idstr }) => idstr === 'more')?.usedLength, 128 << 20);
    const present = await vm.client.execute('qom-list', { path: '/machine/peripheral' });
    assert.ok(
      present.some(({ name }) => name === 'random'),
      'the plugged device is missing',
    );
  });

  test('are named where a waiting QEMU lacks them (guests 3.2)', async () => {
    await using waiting = await startVm({ ...options, incoming: true });
    const said: string[] = [];
    const onWarning = (warning: string) => said.push(warning);
    await assert.rejects(
      restore({ file, vm: waiting.qmpPath, onWarning }),
      failsWith('VM', /RAM block more/),
    );
    assert.match(said.join('\n'), /the waiting QEMU needs .*-object memory-backend-ram,id=more/);
  });
});

describe(
  'back ends that were added for plugged devices',
  needs({ qemu: '10.0', tools: ['qemu-img'] }),
  () => {
    const machine: VmOptions = {
      guest: 'none',
      paused: true,
      extraArgs: [
        ...['-m', '64M,maxmem=1G,slots=4'],
        ...['root1', 'root2', 'root3', 'root4'].flatMap((id, index) => [
          '-device',
          `pcie-root-port,id=${id},chassis=${index}`,
        ]),
        ...['-device', 'virtio-scsi-pci,id=scsi'],
      ],
    };
    let folder: string;
    before(() => {
      folder = temporaryFolder('back-ends');
      for (const name of ['one', 'two', 'three'])
        execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(folder, name), '16M']);
      writeFileSync(path.join(folder, 'raw'), Buffer.alloc(1 << 20));
    });
    after(() => {
      killProcessesWith(folder);
      rmSync(folder, { recursive: true, force: true });
    });
    const inFolder = (name: string) => path.join(folder, name);

    const forwarded = { str: 'tcp:127.0.0.1:0-:22' };
    const socket = (name: string) => ({
      type: 'socket',
      data: { addr: { type: 'unix', data: { path: inFolder(name) } }, server: true, wait: false },
    });
    const additions = (): [string, object][] => [
      ['object-add', { 'qom-type': 'memory-backend-memfd', id: 'memfd1', size: 128 << 20 }],
      [
        'object-add',
        {
          'qom-type': 'memory-backend-file',
          id: 'file1',
          size: 128 << 20,
          'mem-path': inFolder('memory'),
          share: true,
        },
      ],
      ['object-add', { 'qom-type': 'iothread', id: 'thread1' }],
      ['object-add', { 'qom-type': 'rng-random', id: 'random1', filename: '/dev/urandom' }],
      ['netdev_add', { type: 'user', id: 'net1', hostfwd: [forwarded] }],
      ['chardev-add', { id: 'port1', backend: socket('port1.sock') }],
      ['blockdev-add', { driver: 'file', 'node-name': 'below1', filename: inFolder('one') }],
      ['blockdev-add', { driver: 'qcow2', 'node-name': 'disk1', file: 'below1' }],
      [
        'blockdev-add',
        { driver: 'qcow2', 'node-name': 'disk2', file: { driver: 'file', filename: inFolder('two') } },
      ],
      [
        'blockdev-add',
        {
          driver: 'raw',
          'node-name': 'disk3',
          'read-only': true,
          file: { driver: 'file', filename: inFolder('raw') },
        },
      ],
      ['device_add', { driver: 'pc-dimm', id: 'dimm1', memdev: 'memfd1' }],
      ['device_add', { driver: 'pc-dimm', id: 'dimm2', memdev: 'file1' }],
      [
        'device_add',
        { driver: 'virtio-net-pci', id: 'card1', netdev: 'net1', bus: 'root1', mq: true, vectors: 6 },
      ],
      [
        'device_add',
        {
          driver: 'virtio-blk-pci',
          id: 'blk1',
          drive: 'disk1',
          bus: 'root2',
          iothread: 'thread1',
          'num-queues': 2,
          'write-cache': 'off',
          serial: 'ABC',
        },
      ],
      ['device_add', { driver: 'scsi-hd', id: 'scsi1', drive: 'disk2', bus: 'scsi.0', lun: 3 }],
      ['device_add', { driver: 'scsi-cd', id: 'scsi2', drive: 'disk3', bus: 'scsi.0', 'scsi-id': 5 }],
      ['device_add', { driver: 'virtio-serial-pci', id: 'serial1', bus: 'root3' }],
      [
        'device_add',
        { driver: 'virtserialport', id: 'vport1', chardev: 'port1', bus: 'serial1.0', name: 'a.port', nr: 5 },
      ],
      ['device_add', { driver: 'virtio-rng-pci', id: 'rng1', rng: 'random1', bus: 'root4' }],
    ];

    /** What the machine looks like to its guest and to its user. */
    async function seen(qmp: Pick<QmpSession, 'execute'>): Promise<object> {
      const get = async (device: string, property: string) =>
        await qmp.execute('qom-get', { path: `/machine/peripheral/${device}`, property });
      const properties = [
        ...['vectors', 'mq', 'mac', 'netdev'].map((name) => ['card1', name]),
        ...['vectors', 'num-queues', 'write-cache', 'serial', 'drive', 'iothread'].map((name) => [
          'blk1',
          name,
        ]),
        ...['lun', 'scsi-id'].flatMap((name) => [
          ['scsi1', name],
          ['scsi2', name],
        ]),
        ...['nr', 'name', 'chardev'].map((name) => ['vport1', name]),
        ...['addr', 'slot', 'node'].map((name) => ['dimm2', name]),
        ['rng1', 'rng'],
      ] as [string, string][];
      const values = await Promise.all(properties.map(([device, property]) => get(device, property)));
      const human = async (line: string) =>
        await qmp.execute('human-monitor-command', { 'command-line': line });
      const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as {
        'node-name': string;
        drv: string;
        file: string;
        ro: boolean;
      }[];
      return {
        values,
        pci: await human('info pci'),
        forwards: /127\.0\.0\.1\s+\d+/.exec(String(await human('info usernet')))?.[0],
        disks: nodes
          .filter((node) => !node['node-name'].startsWith('#'))
          .map((node) => [node['node-name'], node.drv, node.file, node.ro])
          .toSorted(),
        chardevs: ((await qmp.execute('query-chardev')) as { label: string }[]).some(
          ({ label }) => label === 'port1',
        ),
      };
    }

    test('come back with them when the VM is resumed, with all that was set (guests 3.2)', async () => {
      const file = inFolder('vm.mapram');
      const warnings: string[] = [];
      const vm = await startVm(machine);
      for (const [command, args] of additions()) await vm.qmp.execute(command, args);
      const before = await seen(vm.qmp);
      await save({
        vm: vm.qmpPath,
        file,
        afterwards: 'quit',
        onWarning: (warning) => warnings.push(warning),
      });
      await vm[Symbol.asyncDispose]();
      assert.match(warnings.join(), /"mapram resume" adds them/);
      mkdirSync(vm.folder);
      try {
        await using resumed = await resume({ file, qmp: inFolder('own.qmp') });
        assert.equal(resumed.facts.runState, 'prelaunch');
        const session = await QmpSession.open(resumed.facts.qmp);
        assert.deepEqual(await seen(session), before);
        session.close();
        const forked = path.join(folder, 'clones');
        await using clones = await fork({ file, count: 1, dir: forked });
        assert.equal(clones.vms.length, 1);
      } finally {
        rmSync(vm.folder, { recursive: true, force: true });
      }
    });

    test('are named where QEMU does not say how they were made, and nothing is guessed (guests 3.2)', async () => {
      const file = inFolder('unknown.mapram');
      const warnings: string[] = [];
      await using vm = await startVm(machine);
      const part = { driver: 'raw', 'node-name': 'part1', offset: 4096, size: 8192 };
      const added: [string, object][] = [
        ['netdev_add', { type: 'hubport', id: 'hub1', hubid: 0 }],
        ['chardev-add', { id: 'log1', backend: { type: 'file', data: { out: inFolder('log') } } }],
        ['blockdev-add', { ...part, file: { driver: 'file', filename: inFolder('raw') } }],
        ['device_add', { driver: 'virtio-net-pci', id: 'card1', netdev: 'hub1', bus: 'root1' }],
        ['device_add', { driver: 'virtio-serial-pci', id: 'serial1', bus: 'root3' }],
        ['device_add', { driver: 'virtserialport', id: 'vport1', chardev: 'log1', bus: 'serial1.0' }],
        ['device_add', { driver: 'scsi-hd', id: 'scsi1', drive: 'part1', bus: 'scsi.0' }],
      ];
      for (const [command, args] of added) await vm.qmp.execute(command, args);
      await save({
        vm: vm.qmpPath,
        file,
        afterwards: 'stop',
        onWarning: (warning) => warnings.push(warning),
      });
      for (const back of [/netdev hub1/, /chardev log1/, /drive part1/]) assert.match(warnings.join(), back);
      await assert.rejects(
        resume({ file, qmp: inFolder('own.qmp') }),
        failsWith('VM', /back ends are not known \(.*netdev hub1.*give the command line after --.*card1/),
      );
    });
  },
);
