/**
 * The real QEMUs, kernel and tools that scripts/vm-environment.mjs found, and which tests must be skipped for
 * want of them.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** The two QEMUs of the tests: one with all of mapped-ram and direct-io, and Debian 12's own with neither. */
export type QemuName = '10.0' | '7.2';

/** The processors of the tests' guests, as QEMU names its programs. */
export type Architecture = 'x86_64' | ForeignArchitecture;

/** Those that QEMU emulates and whose guests are assembled with tools of their own. */
export type ForeignArchitecture = 'aarch64' | 'ppc64' | 'riscv64' | 's390x';

export interface QemuProgram {
  program: string;
  /** As QEMU says it: `10.0.2`. */
  version: string;
  /** Arguments that this copy always needs, such as where its firmware lies. */
  args: string[];
  /** For which other processors there is a program of the same release beside it. */
  foreign: ForeignArchitecture[];
}

interface Environment {
  qemu: Partial<Record<QemuName, QemuProgram>>;
  kernel?: string;
  /** Modules of that kernel for a virtio network card, in the order in which they are loaded. */
  modules?: string[];
  busybox?: string;
  /** The QEMU guest agent, linked to libraries of this host, and the kernel's module for the port through which it is spoken to. */
  agent?: { program: string; module: string };
  /** The daemon, which may lie outside of the PATH. */
  libvirtd?: string;
  tools: string[];
}

export const repositoryRoot = path.resolve(import.meta.dirname, '..', '..', '..');

/** Holds what is fetched or made once and used by many test runs. Not under version control. */
export const cacheFolder = path.resolve(repositoryRoot, process.env.MAPRAM_TEST_CACHE ?? '.cache', 'vm');

const environmentFile = path.join(cacheFolder, 'environment.json');

const environment: Environment = existsSync(environmentFile)
  ? JSON.parse(readFileSync(environmentFile, 'utf8'))
  : { qemu: {}, tools: [] };

export type GuestName = 'tiny' | 'linux' | 'none';

export interface Needs {
  qemu?: QemuName | readonly QemuName[];
  /** QEMUs for this processor. */
  architecture?: Architecture;
  guest?: GuestName;
  /** The Linux guest can have a virtio network card. */
  virtioNet?: boolean;
  /** The Linux guest can run the QEMU guest agent. */
  agent?: boolean;
  tools?: readonly string[];
}

function missing(what: Needs): string[] {
  const {
    qemu = [],
    architecture = 'x86_64',
    guest = 'none',
    virtioNet = false,
    agent = false,
    tools = [],
  } = what;
  const qemus = typeof qemu === 'string' ? [qemu] : qemu;
  const programs = new Set(tools);
  if (guest !== 'none') for (const name of ['as', 'ld']) programs.add(binutil(name, architecture));
  if (guest === 'linux') programs.add('cpio');
  const lacking = (name: QemuName): boolean => {
    const found = environment.qemu[name];
    return architecture === 'x86_64' ? found === undefined : found?.foreign.includes(architecture) !== true;
  };
  return [
    ...qemus.filter(lacking).map((name) => `QEMU ${name} for ${architecture}`),
    ...(guest === 'linux' && environment.kernel === undefined ? ['a kernel'] : []),
    ...(virtioNet && environment.modules === undefined ? ["the kernel's modules for virtio-net"] : []),
    ...(agent && environment.agent === undefined ? ['the QEMU guest agent'] : []),
    ...(guest === 'linux' && environment.busybox === undefined ? ['busybox'] : []),
    ...[...programs].filter((name) => !environment.tools.includes(name)),
  ];
}

/**
 * Options for a test or suite: skipped with a reason where something it needs is not there.
 * Throws instead when MAPRAM_TEST_QEMU=required.
 */
export function needs(what: Needs): { skip: string | false } {
  const lacking = missing(what);
  if (lacking.length === 0) return { skip: false };
  const reason = `needs ${lacking.join(', ')}: run \`npm run test:setup\``;
  if (process.env.MAPRAM_TEST_QEMU === 'required') throw new Error(`A required test ${reason}`);
  return { skip: reason };
}

function found<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Error(`${name} is not set up: run \`npm run test:setup\``);
  return value;
}

export function qemuProgram(name: QemuName, architecture: Architecture = 'x86_64'): QemuProgram {
  const qemu = found(environment.qemu[name], `QEMU ${name}`);
  return { ...qemu, program: qemu.program.replace(/x86_64$/, architecture) };
}

/** What Debian calls the assembler (`as`) or linker (`ld`) for a processor. */
export function binutil(name: string, architecture: Architecture): string {
  if (architecture === 'x86_64') return name;
  return `${architecture === 'ppc64' ? 'powerpc64' : architecture}-linux-gnu-${name}`;
}

/** Full path of a program on the PATH. */
export function programPath(name: string): string {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return found(
    folders.map((folder) => path.join(folder || '.', name)).find((file) => existsSync(file)),
    name,
  );
}

export const kernelFile = (): string => found(environment.kernel, 'the Linux kernel');
export const virtioNetModules = (): string[] =>
  found(environment.modules, 'what the kernel needs for virtio-net');
export const guestAgent = (): { program: string; module: string } =>
  found(environment.agent, 'the QEMU guest agent');
export const busyboxFile = (): string => found(environment.busybox, 'busybox');
export const libvirtdFile = (): string => found(environment.libvirtd, 'the daemon of libvirt');
