/** Starts real virtual machines for tests. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Architecture, type GuestName, kernelFile, type QemuName, qemuProgram } from './environment.js';
import { linuxInitramfs, tinyGuest } from './guest-images.js';
import { QmpSession } from './qmp-session.js';
import { SerialConsole } from './serial-console.js';

/**
 * Where the guest's memory lies. `numa-…` are two RAM blocks, `node0` and `node1`, of half the size each;
 * all others are one block that is named as the machine names it by default.
 */
export type MemoryKind =
  | 'anonymous'
  | 'shared-file'
  | 'private-file'
  | 'memfd'
  | 'numa-anonymous'
  | 'numa-shared-files';

export interface VmOptions {
  qemu?: QemuName;
  /** Of the processors. Others than `x86_64` have the tiny guest only, and fixed amounts of everything. */
  architecture?: Architecture;
  /** `q35`, `pc`, `microvm`, a versioned name such as `pc-q35-8.2`, or a machine with options. */
  machine?: string;
  memory?: MemoryKind;
  memoryMiB?: number;
  /** An existing folder for the files of the memory, which are kept; by default one of its own in shared memory. */
  memoryFolder?: string;
  guest?: GuestName;
  /** Pseudo-random or random data that the guest keeps, in MiB. */
  fillMiB?: number;
  /** Memory that the Linux guest rewrites for ever, in MiB, and how much of it a second. */
  churn?: { sizeMiB: number; rateMiB: number };
  /** Wait for an incoming migration (`-incoming defer`) instead of booting. */
  incoming?: boolean;
  /** Do not start the processors. */
  paused?: boolean;
  extraArgs?: readonly string[];
}

type Optional = 'churn' | 'memoryFolder';
export type CompleteVmOptions = Required<Omit<VmOptions, Optional>> & Pick<VmOptions, Optional>;

const guestDefaults = {
  none: { memoryMiB: 64, fillMiB: 0 },
  tiny: { memoryMiB: 64, fillMiB: 32 },
  linux: { memoryMiB: 1024, fillMiB: 300 },
};

/**
 * The machine of each processor that the tiny guest is made for, how much memory it counts on, and what the machine calls
 * it. `x-vof` is a firmware that is there at once; the usual one takes five seconds to start the guest. QEMU 10.0 does not
 * migrate all of the memory protection that `max` has on riscv64.
 */
const machines: Record<Architecture, { machine: string; cpu: string; block: string; memoryMiB?: number }> = {
  x86_64: { machine: 'q35', cpu: 'max', block: 'pc.ram' },
  aarch64: { machine: 'virt', cpu: 'max', block: 'mach-virt.ram', memoryMiB: 128 },
  ppc64: { machine: 'pseries,x-vof=on', cpu: 'power9', block: 'ppc_spapr.ram', memoryMiB: 512 },
  riscv64: { machine: 'virt', cpu: 'rv64', block: 'riscv_virt_board.ram', memoryMiB: 128 },
  s390x: { machine: 's390-ccw-virtio', cpu: 'max', block: 's390.ram', memoryMiB: 128 },
};

export function completeOptions(options: VmOptions): CompleteVmOptions {
  const guest = options.guest ?? 'tiny';
  const architecture = options.architecture ?? 'x86_64';
  const { machine, memoryMiB } = machines[architecture];
  return {
    qemu: '10.0',
    architecture,
    machine,
    memory: 'anonymous',
    guest,
    ...guestDefaults[guest],
    ...(memoryMiB === undefined ? {} : { memoryMiB, fillMiB: 16 }),
    incoming: false,
    paused: false,
    extraArgs: [],
    ...options,
  };
}

/** The machine's own name for its memory, so that files fit whatever backend is used. */
const defaultBlock = ({ machine, architecture }: CompleteVmOptions): string =>
  machine.startsWith('microvm') ? 'microvm.ram' : machines[architecture].block;

interface Memory {
  machine: string;
  args: string[];
  /** The files behind shared or private file memory, by the idstr of the RAM block, in the order of the blocks. */
  files: Map<string, string>;
}

function memoryArguments(options: CompleteVmOptions, folder: string): Memory {
  const { memory, memoryMiB } = options;
  const machine = options.machine === 'microvm' ? 'microvm,isa-serial=on' : options.machine;
  const args = ['-m', `${memoryMiB}M`];
  const file = (id: string): string => path.join(folder, `${id}.memory`);
  if (memory === 'numa-anonymous' || memory === 'numa-shared-files') {
    const files = new Map<string, string>();
    for (const id of ['node0', 'node1']) {
      const size = `id=${id},size=${memoryMiB / 2}M`;
      if (memory === 'numa-anonymous') args.push('-object', `memory-backend-ram,${size}`);
      else {
        files.set(id, file(id));
        args.push('-object', `memory-backend-file,${size},mem-path=${file(id)},share=on`);
      }
      args.push('-numa', `node,memdev=${id}`);
    }
    return { machine, args, files };
  }
  if (memory === 'anonymous') return { machine, args, files: new Map() };
  const id = defaultBlock(options);
  const backend = `id=${id},size=${memoryMiB}M`;
  if (memory === 'memfd') args.push('-object', `memory-backend-memfd,${backend},share=on`);
  else {
    const share = memory === 'shared-file' ? 'on' : 'off';
    args.push('-object', `memory-backend-file,${backend},mem-path=${file(id)},share=${share}`);
  }
  return {
    machine: `${machine},memory-backend=${id}`,
    args,
    files: new Map(memory === 'memfd' ? [] : [[id, file(id)]]),
  };
}

function guestArguments({ guest, architecture, machine, fillMiB, churn }: CompleteVmOptions): string[] {
  if (guest === 'none') return [];
  if (guest === 'tiny') return ['-kernel', tinyGuest(architecture), '-append', `fill=${fillMiB}`];
  // Linux measures its clocks at boot; in emulation on a busy machine that goes wrong, and microvm has no second clock.
  const words = ['console=ttyS0', 'quiet', 'loglevel=0', 'panic=-1', 'no_timer_check', `fill=${fillMiB}`];
  if (machine === 'microvm') words.push('tsc_early_khz=2000000');
  if (churn) words.push(`churn=${churn.sizeMiB}`, `rate=${churn.rateMiB}`);
  return ['-kernel', kernelFile(), '-initrd', linuxInitramfs(), '-append', words.join(' ')];
}

const SHARED_MEMORY = '/dev/shm';
const FOLDER_PREFIX = 'mapram-vm-';

const makeFolder = (parent: string): string =>
  mkdtempSync(path.join(parent, `${FOLDER_PREFIX}${process.pid}-`));

/** Files in shared memory take memory until they are removed, so a test that was killed must not leave its own. */
function removeFoldersOfDeadTests(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(FOLDER_PREFIX) && name.slice(FOLDER_PREFIX.length).match(/^\d+(?=-)/)?.[0];
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(path.join(parent, name), { recursive: true, force: true });
  }
}

const alive = new Set<TestVm>();
process.on('exit', () => {
  for (const vm of alive) vm.removeFiles();
});

/** A running QEMU with two monitors: `qmpPath` for the code under test, `qmp` for the test itself. */
export class TestVm implements AsyncDisposable {
  /** Settles when QEMU has ended. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  stderr = '';
  readonly #process: ChildProcess;
  #qmp: QmpSession | undefined;
  #console: SerialConsole | undefined;

  constructor(
    readonly options: CompleteVmOptions,
    /** For sockets and whatever the test wants to put beside them; removed at the end. */
    readonly folder: string,
    /** The files behind the guest's memory, where it has any, by the idstr of the RAM block. */
    readonly memoryBlocks: ReadonlyMap<string, string>,
    private readonly foldersToRemove: readonly string[],
    readonly commandLine: readonly [string, ...string[]],
  ) {
    // setpriv replaces itself by QEMU, which then cannot outlive the test, however that ends.
    this.#process = spawn('setpriv', ['--pdeathsig', 'KILL', ...commandLine], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.exited = new Promise((resolve, reject) => {
      this.#process.once('error', reject);
      this.#process.once('close', (code, signal) => resolve({ code, signal }));
    });
    this.exited.catch(() => {});
    alive.add(this);
  }

  get pid(): number {
    if (this.#process.pid === undefined) throw new Error('QEMU was not started');
    return this.#process.pid;
  }

  get memoryFiles(): readonly string[] {
    return [...this.memoryBlocks.values()];
  }

  get ended(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  get qmpPath(): string {
    return path.join(this.folder, 'qmp.sock');
  }

  get qmp(): QmpSession {
    if (this.#qmp === undefined) throw new Error('QMP is not connected');
    return this.#qmp;
  }

  get console(): SerialConsole {
    if (this.#console === undefined) throw new Error('The serial port is not connected');
    return this.#console;
  }

  /** Opens one of the VM's sockets as soon as QEMU has made it. */
  async #connect<T>(open: (path: string) => Promise<T>, name: string): Promise<T> {
    for (;;) {
      try {
        return await open(path.join(this.folder, name));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error;
        if (this.ended) {
          await this.exited;
          throw new Error(`QEMU did not start: ${this.stderr.trim()}`);
        }
        await sleep(10);
      }
    }
  }

  async connect(): Promise<void> {
    this.#qmp = await this.#connect(QmpSession.open, 'test-qmp.sock');
    this.#console = await this.#connect(SerialConsole.open, 'serial.sock');
  }

  /** QEMU's word for its state: `running`, `paused`, `inmigrate`, … */
  async status(): Promise<string> {
    return (await this.qmp.execute<{ status: string }>('query-status')).status;
  }

  async stop(): Promise<void> {
    await this.qmp.execute('stop');
  }

  async cont(): Promise<void> {
    await this.qmp.execute('cont');
  }

  removeFiles(): void {
    for (const folder of this.foldersToRemove) rmSync(folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#qmp?.close();
    this.#console?.close();
    if (!this.ended) this.#process.kill('SIGKILL');
    await this.exited.catch(() => {});
    this.removeFiles();
    alive.delete(this);
  }
}

/** Starts a VM. When this returns, its monitors answer and, unless `incoming` or `paused`, its guest is up. */
export async function startVm(options: VmOptions = {}): Promise<TestVm> {
  const complete = completeOptions(options);
  const { program, args } = qemuProgram(complete.qemu, complete.architecture);
  for (const parent of [os.tmpdir(), SHARED_MEMORY]) removeFoldersOfDeadTests(parent);
  const folder = makeFolder(os.tmpdir());
  const memoryFolder = complete.memoryFolder ?? makeFolder(SHARED_MEMORY);
  const ownFolders = complete.memoryFolder === undefined ? [folder, memoryFolder] : [folder];
  const memory = memoryArguments(complete, memoryFolder);
  const socket = (id: string): string =>
    `socket,id=${id},path=${path.join(folder, id)}.sock,server=on,wait=off`;
  const vm = new TestVm(complete, folder, memory.files, ownFolders, [
    program,
    ...args,
    ...['-machine', memory.machine, '-accel', 'tcg', '-cpu', machines[complete.architecture].cpu],
    ...memory.args,
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-chardev', socket('qmp'), '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', socket('test-qmp'), '-mon', 'chardev=test-qmp,mode=control'],
    ...['-chardev', socket('serial'), '-serial', 'chardev:serial'],
    ...guestArguments(complete),
    // Not to run before somebody listens on the serial port.
    ...(complete.incoming ? ['-incoming', 'defer'] : ['-S']),
    ...complete.extraArgs,
  ]);
  try {
    await vm.connect();
    if (!complete.incoming && !complete.paused) {
      await vm.cont();
      if (complete.guest !== 'none') await vm.console.waitForBoot();
    }
    return vm;
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
}
