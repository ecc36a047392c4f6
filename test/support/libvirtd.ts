/** A libvirt of a test's own: its daemon for one user, with all it keeps in one folder. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { libvirtdFile, qemuProgram } from './environment.js';
import { killProcessesWith } from './resumed-guest.js';
import { temporaryFolder } from './temporary-folder.js';

/** Whom the VMs belong to where the test is root: root's libvirt would keep its files outside of the test's folder. */
const NOBODY = 65534;

export interface DomainOptions {
  name: string;
  emulator?: string;
  machine?: string;
  memoryMiB?: number;
  /** A kernel to boot, and its command line. */
  kernel?: string;
  append?: string;
  /** Whether its RAM is a file that others can map. */
  shared?: boolean;
}

export class Libvirtd implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #errors = '';

  private constructor(readonly folder: string) {
    const asRoot = process.getuid?.() === 0;
    const identity = asRoot ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : [];
    const xdg = ['RUNTIME_DIR', 'CONFIG_HOME', 'CACHE_HOME', 'DATA_HOME'].map((name) => [
      `XDG_${name}`,
      path.join(folder, name.toLowerCase()),
    ]);
    for (const [, directory = ''] of xdg) mkdirSync(directory, { mode: 0o700 });
    mkdirSync(this.#memory);
    const configuration = path.join(folder, 'config_home', 'libvirt');
    mkdirSync(configuration);
    writeFileSync(
      path.join(configuration, 'qemu.conf'),
      `memory_backing_dir = "${this.#memory}"\nstdio_handler = "file"\n`,
    );
    if (asRoot)
      for (const file of [folder, ...xdg.map(([, directory = '']) => directory), this.#memory, configuration])
        chownSync(file, NOBODY, NOBODY);
    chmodSync(folder, 0o755);
    this.#process = spawn('setpriv', [...identity, '--pdeathsig', 'KILL', libvirtdFile()], {
      cwd: folder,
      env: { ...process.env, HOME: folder, ...Object.fromEntries(xdg) },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#ended = new Promise((resolve) => this.#process.once('close', resolve));
  }

  static async start(): Promise<Libvirtd> {
    // Paths of Unix sockets are short.
    const daemon = new Libvirtd(temporaryFolder('lv'));
    while (!existsSync(daemon.#socket)) {
      if (daemon.#process.exitCode !== null) throw new Error(`libvirtd did not start: ${daemon.#errors}`);
      await sleep(10);
    }
    return daemon;
  }

  get #socket(): string {
    return path.join(this.folder, 'runtime_dir/libvirt/libvirt-sock');
  }

  get #memory(): string {
    return path.join(this.folder, 'memory');
  }

  get uri(): string {
    return `qemu:///session?socket=${this.#socket}`;
  }

  /** As mapram takes a VM. */
  address(domain: string): string {
    return `libvirt:${this.uri}#${domain}`;
  }

  /** Runs virsh and gives what it printed. */
  async virsh(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)('virsh', ['-q', '-c', this.uri, ...args]);
    return stdout.trim();
  }

  /** Starts a domain that is gone when it ends. */
  async create(domain: DomainOptions): Promise<void> {
    const file = path.join(this.folder, `${domain.name}.xml`);
    writeFileSync(file, domainXml(domain));
    await this.virsh('create', file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
    killProcessesWith(this.folder);
  }
}

function domainXml({
  name,
  machine = 'q35',
  memoryMiB = 64,
  kernel,
  append,
  shared,
  emulator = qemuProgram('10.0').program,
}: DomainOptions): string {
  const boot = kernel === undefined ? '' : `<kernel>${kernel}</kernel><cmdline>${append ?? ''}</cmdline>`;
  const backing = shared ? "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>" : '';
  return `
<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>${memoryMiB}</memory>
  ${backing}
  <os><type arch='x86_64' machine='${machine}'>hvm</type>${boot}</os>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model></cpu>
  <devices>
    <emulator>${emulator}</emulator>
    <memballoon model='none'/>
  </devices>
</domain>`;
}
