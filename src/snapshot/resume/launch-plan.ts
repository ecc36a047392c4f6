/** From a snapshot and what the user gave to the command line of a QEMU that can be resumed from it. */
import { existsSync } from 'node:fs';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import {
  type CommandLineOption,
  formatCommandLine,
  parseCommandLine,
  quoteForShell,
} from '../../launch/command-line.js';
import { confined } from '../../launch/confinement.js';
import { withoutWaiting } from '../../launch/endpoints.js';
import { renewGenerationId } from '../../launch/generation-id.js';
import { knownOptions } from '../../launch/known-options.js';
import type { LaunchDisk, LaunchRecord } from '../../launch/launch-record.js';
import { withoutOwnMonitor } from '../../launch/own-monitor.js';
import { qemuRelease } from '../../launch/qemu-release.js';
import { resumeCommandLine } from '../../launch/resume-command-line.js';
import { insertSecrets } from '../../launch/secrets.js';
import { checkDisks } from '../checks/disk-checks.js';
import type { LaunchOptions } from './launch-options.js';
import type { LibvirtLaunch } from './libvirt-launch.js';
import { assertMayRun, hostChange, type LaunchTrust, recordedLaunch } from './recorded-launch.js';
import type { ResumeSource } from './resume-source.js';

export interface LaunchPlan {
  program: string;
  options: CommandLineOption[];
  /** Directory of the cgroup that it is put into. */
  cgroup?: string;
  /** The blocks of the file that are mapped. */
  mapped: string[];
  workingDirectory: string;
  /** The disks as they were, where the file tells. */
  disks: readonly LaunchDisk[];
  /** Whether the guest is told that it is a copy. */
  generationRenewed: boolean;
  /** Whose word the command line is. */
  trust: LaunchTrust;
  /** Stands for the file and all that it says about what is to be run. */
  fingerprint: string;
  /** What the user should know. It takes a moment to find out, which a QEMU that starts need not wait for. */
  warnings(): string[];
}

/**
 * @param purpose `show`: also what would not be run is planned, to be looked at
 * @param copies whether QEMU gets copies of the disks, so that nothing is written to these
 * @throws MapramError `USAGE` when there is no command line or a secret is missing; `UNTRUSTED` for a command line that the user neither
 *   wrote nor agreed to; `VM` when the command line does not fit the file or a disk has changed; `BUSY` when another VM writes to a disk
 */
export async function planLaunch(
  source: ResumeSource,
  options: LaunchOptions,
  purpose: 'run' | 'show',
  copies: boolean,
): Promise<LaunchPlan> {
  const ofFile = recordedLaunch(source.image);
  const asksLibvirt = ofFile === undefined && (options.command ?? []).length === 0;
  const ofLibvirt = asksLibvirt ? await askLibvirt(source, options) : undefined;
  const recorded = ofFile ?? ofLibvirt?.launch;
  const trust = await trustInCommand(source, recorded, options);
  const { fingerprint } = source;
  if (purpose === 'run') assertMayRun(source.file, { trust, fingerprint }, options.trust);
  const { program, args, own } = commandOf(source, recorded, options);
  const workingDirectory = own || recorded === undefined ? process.cwd() : recorded.workingDirectory;
  // It answers while the disks are looked at.
  if (purpose === 'run') void qemuRelease(program, workingDirectory);
  const warnings: string[] = source.warning === undefined ? [] : [source.warning];
  warnings.push(...(ofLibvirt?.warnings ?? []));
  const given = withoutOwnMonitor(parseCommandLine(args));
  const { paused = false } = options;
  const rewritten = resumeCommandLine(given, source.shape, { stayPaused: paused });
  warnings.push(...rewritten.warnings);
  const { allowChangedDisks = false } = options;
  const disks = { options: rewritten.options, workingDirectory, recorded, own, copies, allowChangedDisks };
  warnings.push(...(await checkDisks(source, disks)));
  const { options: renewedOptions, renewed } = renewGenerationId(withoutWaiting(rewritten.options));
  return {
    program,
    options: await confined(program, renewedOptions, options),
    ...defined({ cgroup: options.cgroup }),
    mapped: rewritten.mapped,
    workingDirectory,
    disks: recorded?.disks ?? [],
    generationRenewed: renewed,
    trust,
    fingerprint,
    warnings: () => [...warnings, ...(recorded === undefined ? [] : hostChange(recorded))],
  };
}

/** What is loaded for this is not needed for other files, which are not to wait for it. */
async function askLibvirt(
  source: ResumeSource,
  { signal }: LaunchOptions,
): Promise<LibvirtLaunch | undefined> {
  if (source.image.container.kind !== 'libvirt') return undefined;
  const { libvirtLaunch } = await import('./libvirt-launch.js');
  return await libvirtLaunch(source.image, knownWords(source), signal);
}

/** What of the command line follows from the file alone. */
function knownWords({ shape }: ResumeSource): string {
  return formatCommandLine(knownOptions(shape)).join(' ');
}

/** The plan's command line in words, as a shell would get it. */
export function commandWords({ program, options }: Pick<LaunchPlan, 'program' | 'options'>): string[] {
  return [program, ...formatCommandLine(options)];
}

/** The program of arguments that come without one is the recorded one. */
async function trustInCommand(
  source: ResumeSource,
  recorded: LaunchRecord | undefined,
  { command: [program = '-'] = [] }: LaunchOptions,
): Promise<LaunchTrust> {
  return recorded === undefined || !program.startsWith('-')
    ? { origin: 'given' }
    : await source.trustIn(recorded);
}

function commandOf(
  source: ResumeSource,
  recorded: LaunchRecord | undefined,
  { command, secrets = {} }: LaunchOptions,
): { program: string; args: readonly string[]; own: boolean } {
  const { file } = source;
  if (command !== undefined && command.length > 0) {
    const [first = '', ...rest] = command;
    return first.startsWith('-')
      ? { program: recorded?.program ?? defaultProgram(), args: command, own: true }
      : { program: first, args: rest, own: true };
  }
  if (recorded === undefined) {
    throw new MapramError(
      'USAGE',
      `resuming ${file}: the file does not tell how its VM was started; give its command line behind --, with ${knownWords(source)} in it`,
      { path: file },
    );
  }
  const { arguments: args, missing } = insertSecrets(
    [...recorded.arguments, ...(recorded.plugged ?? [])],
    secrets,
  );
  if (missing.length > 0) {
    const places = recorded.omitted
      .filter(({ name }) => missing.includes(name))
      .map(({ name, place }) => `${name} (${place})`);
    throw new MapramError(
      'USAGE',
      `resuming ${file}: secrets are not kept in snapshots, give them again with --secret NAME=FILE: ${places.join('; ')}`,
      { path: file },
    );
  }
  const { missing: unknown = [] } = recorded;
  if (unknown.length > 0) {
    throw new MapramError(
      'VM',
      `resuming ${file}: devices were plugged into the saved VM whose back ends are not known (${unknown.join(', ')}); give the command line after --, with these and ${quoteForShell(recorded.plugged ?? [])}`,
      { path: file },
    );
  }
  if (!existsSync(recorded.workingDirectory)) {
    throw new MapramError(
      'VM',
      `resuming ${file}: the directory ${recorded.workingDirectory} in which its VM was started is gone; give the command line behind --`,
      { path: recorded.workingDirectory },
    );
  }
  return { program: recorded.program, args, own: false };
}

function defaultProgram(): string {
  const architectures: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };
  return `qemu-system-${architectures[process.arch] ?? process.arch}`;
}
