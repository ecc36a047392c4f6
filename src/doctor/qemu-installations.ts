import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { accessSync, constants, readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorReason } from '../errors.js';
import { isNewerThanKnown, NEWEST_PROFILE, type QemuRelease } from '../options/qemu-profile.js';
import { QmpClient, type QmpExecuteOptions } from '../qmp/qmp-client.js';
import { QmpError } from '../qmp/qmp-error.js';
import type { Finding } from './finding.js';
import { checkKvm } from './host-check.js';

/** What one QEMU program can do, as it told itself. */
export interface QemuInstallation {
  /** As found on the PATH. */
  readonly path: string;
  /** Other names of the same file. */
  readonly aliases: readonly string[];
  /** `10.0.2`. */
  readonly version: string;
  /** The distribution's package, where the build names it. */
  readonly package: string;
  /** Whether it has KVM built in and can use it here. */
  readonly kvm: boolean;
  /** Saves and loads files of the mapped-ram layout (9.0 and later). */
  readonly mappedRam: boolean;
  /** Moves their pages through O_DIRECT (9.1 and later, where built for it). */
  readonly directIo: boolean;
  readonly multifd: boolean;
  /** Can leave shared memory out of the stream, which the method `shared` needs. */
  readonly ignoreShared: boolean;
}

/** A program with the name of a QEMU that did not answer as one. */
export interface BrokenQemu {
  readonly path: string;
  readonly aliases: readonly string[];
  readonly problem: string;
}

const PROGRAM_NAME = /^(?:qemu-system-[a-z0-9_-]+|qemu-kvm)$/i;
/** Where RHEL and its relatives keep theirs, off the PATH. */
const OFF_PATH = ['/usr/libexec/qemu-kvm'];
/** A QEMU without a machine is up in 50 ms; one that has to be fetched from a slow disk takes longer. */
const TIMEOUT_MS = 15_000;

interface FoundProgram {
  path: string;
  aliases: string[];
}

/** Executable files with a QEMU's name in the directories of `searchPath` (a PATH), links to one file together. */
export function findQemuPrograms(searchPath: string): FoundProgram[] {
  const candidates = searchPath
    .split(path.delimiter)
    .filter((directory) => path.isAbsolute(directory))
    .flatMap((directory) =>
      namesIn(directory)
        .filter((name) => PROGRAM_NAME.test(name))
        .sort()
        .map((name) => path.join(directory, name)),
    );
  const byFile = new Map<string, FoundProgram>();
  for (const candidate of [...candidates, ...OFF_PATH]) {
    const file = executable(candidate);
    if (file === undefined) continue;
    const known = byFile.get(file);
    if (known === undefined) byFile.set(file, { path: candidate, aliases: [] });
    else if (known.path !== candidate && !known.aliases.includes(candidate)) known.aliases.push(candidate);
    // The file's own name says more than a link's.
    if (known !== undefined && candidate === file && known.path !== file) {
      known.aliases = [known.path, ...known.aliases.filter((alias) => alias !== file)];
      known.path = file;
    }
  }
  return [...byFile.values()];
}

/** Starts a QEMU without a machine and asks it. It is gone again when the promise settles. */
export async function askQemu(
  program: FoundProgram,
  signal: AbortSignal,
): Promise<QemuInstallation | BrokenQemu> {
  const child = spawn(
    program.path,
    ['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none', '-S', '-qmp', 'stdio'],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 500);
  });
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', (error) => {
      complaint = errorReason(error);
      resolve();
    });
  });
  try {
    const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
    // A program that ends at once fails the stream; what it said on stderr tells more.
    stream.on('error', () => {});
    return await interview(stream, program, signal);
  } catch (error) {
    signal.throwIfAborted();
    await end(child, ended);
    const [firstLine] = complaint.trim().split('\n');
    return { ...program, problem: firstLine || errorReason(error) };
  } finally {
    await end(child, ended);
  }
}

/** How long the pipes of a program that has ended may stay open: a QEMU that a wrapper has started may hold them. */
const PIPES_MS = 500;

/** @param ended settles when the program has ended and its pipes are closed */
async function end(child: ChildProcessWithoutNullStreams, ended: Promise<void>): Promise<void> {
  child.kill('SIGKILL');
  await Promise.race([ended, sleep(PIPES_MS)]);
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  await ended;
}

async function interview(
  stream: Duplex,
  program: FoundProgram,
  signal: AbortSignal,
): Promise<QemuInstallation> {
  const wait = { timeoutMs: TIMEOUT_MS, signal };
  const client = await QmpClient.connect(stream, { ...wait, name: program.path });
  const capabilities = await client.execute('query-migrate-capabilities', undefined, wait);
  const parameters = await client.execute('query-migrate-parameters', undefined, wait);
  const kvm = await hasKvm(client, wait);
  const has = (name: string) => capabilities.some(({ capability }) => capability === name);
  const { major, minor, micro } = client.version.qemu;
  return {
    ...program,
    version: `${major}.${minor}.${micro}`,
    package: client.version.package,
    kvm: kvm && checkKvm() === 'usable',
    mappedRam: has('mapped-ram'),
    directIo: 'direct-io' in parameters,
    multifd: has('multifd'),
    ignoreShared: has('x-ignore-shared'),
  };
}

/** `query-kvm` is deprecated since 11.0, for a command that older QEMUs lack. */
async function hasKvm(client: QmpClient, wait: QmpExecuteOptions): Promise<boolean> {
  try {
    const { present } = (await client.execute('query-kvm', undefined, wait)) as { present?: boolean };
    return present === true;
  } catch (error) {
    if (!(error instanceof QmpError && error.errorClass === 'CommandNotFound')) throw error;
  }
  const { present } = (await client.execute('query-accelerators', undefined, wait)) as { present?: unknown };
  return Array.isArray(present) && present.includes('kvm');
}

/** One note about all that are newer than any that mapram knows. */
export function newerQemuFindings(qemus: readonly (QemuInstallation | BrokenQemu)[]): Finding[] {
  const newer = qemus.filter((qemu) => 'version' in qemu).filter((qemu) => isNewerThanKnown(releaseOf(qemu)));
  const names = newer.map(({ path: program, version }) => `${program} (${version})`);
  if (newer.length === 0) return [];
  return [
    {
      level: 'note',
      subject: 'newer QEMU',
      message: `${names.join(', ')}: mapram knows QEMU up to ${NEWEST_PROFILE} and uses these as that one; what else they have is asked of them`,
    },
  ];
}

function releaseOf({ version }: QemuInstallation): QemuRelease {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return [major, minor];
}

/** What the user should know about it. */
export function qemuFinding(qemu: QemuInstallation | BrokenQemu): Finding {
  const subject = qemu.path;
  if ('problem' in qemu) {
    return {
      level: 'bad',
      subject,
      message: `does not work: ${qemu.problem}; reinstall it or take it off the PATH`,
    };
  }
  const name = `QEMU ${qemu.version}`;
  if (qemu.mappedRam && qemu.directIo && qemu.multifd) {
    return { level: 'good', subject, message: `${name}: every save method, loads with direct I/O` };
  }
  if (qemu.mappedRam) {
    return {
      level: 'note',
      subject,
      message: `${name}: loads mapped-ram files, but only through the page cache; 9.1 or later has direct I/O`,
    };
  }
  return {
    level: 'note',
    subject,
    message: qemu.ignoreShared
      ? `${name}: can be saved from with --method shared or stream; to load such a file use 9.0 or later`
      : `${name}: too old for mapped-ram files; use 9.1 or later`,
  };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** The file behind a path, undefined unless it can be run. */
function executable(candidate: string): string | undefined {
  try {
    accessSync(candidate, constants.X_OK);
    const file = realpathSync(candidate);
    return statSync(file).isFile() ? file : undefined;
  } catch {
    return undefined;
  }
}
