/** VMs in any run state that QEMU has. */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QemuName } from './environment.js';
import { saveStream } from './native-migration.js';
import { startVm, type TestVm, type VmOptions } from './qemu.js';

/** States that a stream can tell its destination to take up. */
export const LOADABLE_STATES = [
  'running',
  'paused',
  'prelaunch',
  'suspended',
  'io-error',
  'watchdog',
  'guest-panicked',
  'internal-error',
  'shutdown',
  'postmigrate',
  'finish-migrate',
  'colo',
] as const;

/** `save-vm` is a state of QEMU 10.0 only: 7.2 leaves a guest in S3 as it is. */
export const OTHER_STATES = ['inmigrate', 'debug', 'save-vm'] as const;

export type AnyRunState = (typeof LOADABLE_STATES)[number] | (typeof OTHER_STATES)[number];

const MACHINE = { machine: 'pc', memory: 'shared-file', memoryMiB: 16, guest: 'none' } as const;

/** A small VM in that state; what the guest does in it is nothing. */
export async function startVmIn(state: AnyRunState, qemu: QemuName, folder: string): Promise<TestVm> {
  if (state === 'debug') return await stoppedByDebugger(qemu, folder);
  const options: VmOptions = { ...MACHINE, qemu, incoming: true };
  const vm = await startVm(options);
  if (state === 'inmigrate') return vm;
  const stream = await streamIn(state === 'save-vm' ? 'suspended' : state, qemu, folder);
  await vm.qmp.execute('migrate-incoming', { uri: `exec:cat ${stream}` });
  while ((await vm.status()) === 'inmigrate') await sleep(2);
  while ((await vm.qmp.execute<{ status: string }>('query-migrate')).status !== 'completed') await sleep(2);
  if (state === 'save-vm')
    await vm.qmp.execute('xen-save-devices-state', { filename: '/dev/null', live: false });
  return vm;
}

const paused = new Map<string, Promise<Buffer>>();

/** A stream whose section `globalstate` names another state: its length, 32 bits, and its name, 100 bytes. */
async function streamIn(state: string, qemu: QemuName, folder: string): Promise<string> {
  const known = paused.get(qemu) ?? streamOfPaused(qemu, folder);
  paused.set(qemu, known);
  const bytes = Buffer.from(await known);
  const name = Buffer.from('globalstate\0\0\0\0');
  const data = bytes.lastIndexOf(name) + name.length + 4;
  bytes.fill(0, data, data + 4 + 100);
  bytes.writeUInt32BE(state.length + 1, data);
  bytes.write(state, data + 4, 'latin1');
  const file = path.join(folder, `${qemu}-${state}.stream`);
  writeFileSync(file, bytes);
  return file;
}

async function streamOfPaused(qemu: QemuName, folder: string): Promise<Buffer> {
  await using vm = await startVm({ ...MACHINE, qemu, paused: true });
  const file = path.join(folder, `${qemu}.stream`);
  await saveStream(vm, file);
  return readFileSync(file);
}

/** A debugger that has taken one step, and stays connected. */
async function stoppedByDebugger(qemu: QemuName, folder: string): Promise<TestVm> {
  const gdb = path.join(folder, 'gdb.sock');
  const vm = await startVm({
    ...MACHINE,
    qemu,
    extraArgs: ['-chardev', `socket,id=gdb,server=on,wait=off,path=${gdb}`, '-gdb', 'chardev:gdb'],
  });
  const socket = connect(gdb);
  socket.on('error', () => {});
  const step = 'vCont;s:1';
  const sum = Buffer.from(step).reduce((total, byte) => (total + byte) & 255, 0);
  socket.write(`+$${step}#${sum.toString(16).padStart(2, '0')}`);
  while ((await vm.status()) !== 'debug') await sleep(5);
  return vm;
}

/** `mov dx, 0x604; mov ax, 0x2400; out dx, ax`: S3 by q35's PM1a control register; then `hlt` for ever. */
const SLEEP = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd];

/** A guest that really goes to sleep: QEMU and firmware know of it, and `system_wakeup` wakes it. */
export async function startSleepingVm(qemu: QemuName, folder: string): Promise<TestVm> {
  const disk = path.join(folder, `sleep-${qemu}.img`);
  const sector = Buffer.alloc(1 << 20);
  sector.set(SLEEP);
  sector.writeUInt16LE(0xaa55, 510);
  writeFileSync(disk, sector);
  const vm = await startVm({
    ...MACHINE,
    memoryMiB: 64,
    machine: 'q35',
    qemu,
    extraArgs: ['-drive', `file=${disk},format=raw,if=none,id=d`, '-device', 'ide-hd,drive=d'],
  });
  while ((await vm.status()) !== 'suspended') await sleep(20);
  return vm;
}
