import path from 'node:path';
import { checkDirectory, type DirectoryCheck, directoryFindings } from '../../doctor/directory-check.js';
import type { Finding } from '../../doctor/finding.js';
import { checkHost, describeMemory, type HostCheck, hostFindings } from '../../doctor/host-check.js';
import { checkLeftBehind } from '../../doctor/left-behind.js';
import {
  askQemu,
  type BrokenQemu,
  findQemuPrograms,
  newerQemuFindings,
  type QemuInstallation,
  qemuFinding,
} from '../../doctor/qemu-installations.js';
import type { DirectIoProbe } from '../../io/file/direct-io-probe.js';
import { formatSize } from '../../size.js';
import type { CommandOf } from '../command.js';
import { plural, properties, table } from '../format.js';

/** Opening the device is all that is tried: whether guests run with it shows only when one does. */
const KVM = {
  usable: '/dev/kvm can be opened',
  denied: '/dev/kvm is not for this user',
  absent: 'no /dev/kvm',
} as const satisfies Record<HostCheck['kvm'], string>;

export const doctor: CommandOf<'doctor'> = {
  name: 'doctor',
  summary: 'which QEMUs are here, and what a directory can do: direct I/O, alignment, speed',
  declare(command) {
    command
      .argument('[directory]', 'where saved VMs would go', '.')
      .option('--all', 'list every QEMU and every check, also those that are as they should be')
      .option(
        '--clean',
        'remove what saves that died have left in the directory, and folders of clones that have ended',
      )
      .option('--rescue', 'continue VMs that a save which died has left stopped')
      .option('--end-orphans', 'end VMs that were to end with a resume or fork that was killed');
    command.addHelpText(
      'after',
      `
Tries the directory with a file of at most 256 MiB, which has no name and is removed again. Exit code 1 when something will not work.

Examples:
  mapram doctor
  mapram doctor /var/lib/vm --json`,
    );
  },
  async run([directory], { all, clean, rescue, endOrphans }, { signal, progress }) {
    const phase = (name: string) => progress({ phase: name, bytes: 0, totalBytes: 0, pages: 0, rate: 0 });
    const host = checkHost();
    phase('asking QEMUs');
    const qemus: (QemuInstallation | BrokenQemu)[] = [];
    for (const program of findQemuPrograms(process.env.PATH ?? ''))
      qemus.push(await askQemu(program, signal));
    phase('trying the disk');
    const checked = await checkDirectory(String(directory), signal);
    const leftBehind = await checkLeftBehind(String(directory), {
      clean: clean === true,
      rescue: rescue === true,
      endOrphans: endOrphans === true,
    });
    const { parts, vms, orphans, ended } = leftBehind;
    const findings: Finding[] = [
      ...hostFindings(host),
      ...(qemus.length === 0
        ? [
            {
              level: 'note' as const,
              subject: 'QEMU',
              message: 'none on the PATH: only `mapram demo` and builtin VMs work',
            },
          ]
        : [...qemus.map(qemuFinding), ...newerQemuFindings(qemus)]),
      ...directoryFindings(checked),
      ...leftBehind.findings,
    ];
    const bad = findings.filter(({ level }) => level === 'bad');
    return {
      fields: { host, qemus, directory: checked, leftBehind: { parts, vms, orphans, ended }, findings },
      text: describe(
        host,
        qemus,
        checked,
        all === true ? findings : shortened(findings, leftBehind.findings),
        {
          summary: summaryOf(findings),
          all: all === true,
        },
      ),
      ...(bad.length === 0
        ? {}
        : { failed: `doctor: ${bad.map(({ subject, message }) => `${subject}: ${message}`).join('; ')}` }),
    };
  },
};

function describe(
  host: HostCheck,
  qemus: readonly (QemuInstallation | BrokenQemu)[],
  directory: DirectoryCheck,
  findings: readonly Finding[],
  { summary, all }: { summary: string; all: boolean },
): string {
  const working = qemus.filter((qemu) => 'version' in qemu);
  const about = [
    properties([
      ['host', `${host.kernel}, ${host.architecture}, ${host.cpus} CPUs, ${KVM[host.kvm]}`],
      ['memory', describeMemory(host)],
      ['runtime', `Node.js ${host.node}, ${host.native.library}`],
      ...(all ? [] : groupsOf(working).map((group): [string, string] => ['QEMU', describeGroup(group)])),
    ]),
    ...(all && working.length > 0 ? [describeQemus(working)] : []),
    describeDirectory(directory),
    ...(findings.length === 0
      ? []
      : [table(findings.map(({ level, subject, message }) => [MARK[level], `${subject}: ${message}`]))]),
    summary,
  ];
  return about.join('\n\n');
}

/** What is not as it should be, and what was put right just now. */
function shortened(findings: readonly Finding[], repairs: readonly Finding[]): Finding[] {
  return findings.filter((finding) => finding.level !== 'good' || repairs.includes(finding));
}

function summaryOf(findings: readonly Finding[]): string {
  const bad = findings.filter(({ level }) => level === 'bad').length;
  const notes = findings.filter(({ level }) => level === 'note').length;
  const worthKnowing = notes === 0 ? '' : `, ${plural(notes, 'note')} above`;
  return bad === 0
    ? `All is well${worthKnowing}.`
    : `${plural(bad, 'thing')} will not work, marked BAD${worthKnowing}.`;
}

/** QEMUs of one version that can do the same, in one directory: a distribution has dozens, one for each processor. */
function groupsOf(qemus: readonly QemuInstallation[]): QemuInstallation[][] {
  const groups = new Map<string, QemuInstallation[]>();
  for (const qemu of qemus) {
    const key = JSON.stringify([path.dirname(qemu.path), qemu.version, qemuFinding(qemu).message]);
    groups.set(key, [...(groups.get(key) ?? []), qemu]);
  }
  return [...groups.values()];
}

/** Processors that people look for first; of the others there is the number. */
const COMMON = ['x86_64', 'aarch64', 'riscv64', 'ppc64', 's390x'];

function describeGroup(group: readonly QemuInstallation[]): string {
  const [first] = group as [QemuInstallation];
  const message = qemuFinding(first).message;
  if (group.length === 1) return `${first.path}, ${message}`;
  const names = group.map((qemu) => path.basename(qemu.path).replace(/^qemu-system-/, ''));
  const common = COMMON.filter((name) => names.includes(name));
  const shown = common.length > 0 ? common : names.slice(0, 3);
  const others = group.length - shown.length;
  const rest = others === 0 ? '' : ` and ${others} more`;
  return `${path.dirname(first.path)}/qemu-system-{${shown.join(',')}}${rest}, ${message}`;
}

const MARK = { good: 'ok', note: 'note', bad: 'BAD' } as const;
const yes = (value: boolean) => (value ? 'yes' : 'no');

function describeQemus(qemus: readonly QemuInstallation[]): string {
  return table([
    ['QEMU', 'version', 'mapped-ram', 'direct-io', 'multifd', 'ignore-shared', 'KVM'],
    ...qemus.map((qemu) => [
      qemu.path,
      qemu.version,
      yes(qemu.mappedRam),
      yes(qemu.directIo),
      yes(qemu.multifd),
      yes(qemu.ignoreShared),
      yes(qemu.kvm),
    ]),
  ]);
}

function describeDirectory({
  path: name,
  mount,
  freeBytes,
  directIo,
  preallocation,
  speed,
}: DirectoryCheck): string {
  const where = mount === undefined ? '' : `, ${mount.type} on ${mount.source}`;
  // ramfs and some network file systems tell no size.
  const free = Number.isFinite(freeBytes) ? `${formatSize(freeBytes)} free` : 'size not limited';
  return properties([
    ['directory', `${name}${where}, ${free}`],
    ['direct I/O', describeDirectIo(directIo)],
    ['preallocation', yes(preallocation)],
    ...(speed === undefined
      ? []
      : [
          [
            'speed',
            `write ${formatSize(speed.writeRate)}/s, read ${formatSize(speed.readRate)}/s (${formatSize(speed.bytes)}, ${speed.direct ? 'direct' : 'through the page cache'})`,
          ] as const,
        ]),
  ]);
}

function describeDirectIo({
  supported,
  memoryAlignment,
  offsetAlignment,
  how,
  reason,
}: DirectIoProbe): string {
  if (!supported) return `no: ${reason}`;
  const source = how === 'statx' ? 'says the kernel' : 'found by trying';
  return offsetAlignment === 1 && memoryAlignment === 1
    ? `yes, at any alignment (${source})`
    : `yes, memory aligned to ${memoryAlignment}, offset and length to ${offsetAlignment} bytes (${source})`;
}
