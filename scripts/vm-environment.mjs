// What the tests with real virtual machines need: two QEMUs, for x86 and other processors, a Linux kernel, busybox and a
// few tools.
//
// On Debian 12 as root, whatever is missing is fetched with apt; elsewhere it is only looked for, and the tests
// that lack something are skipped. QEMU 10 and the tools are installed as packages; QEMU 7.2, the kernel and
// busybox are unpacked into the cache folder (`.cache`, or MAPRAM_TEST_CACHE), so that the machine's own stay
// untouched. What was found is written to `environment.json` there, for test/support/environment.ts.
//
//   node scripts/vm-environment.mjs      prepares and prints what there is
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const root = path.dirname(import.meta.dirname);
const cache = path.resolve(root, process.env.MAPRAM_TEST_CACHE ?? '.cache', 'vm');
const oldQemu = path.join(cache, 'qemu-7.2');
const kernel = path.join(cache, 'kernel');
const busybox = path.join(cache, 'busybox');
const guestAgent = path.join(cache, 'guest-agent');
const libvirtDaemon = path.join(cache, 'libvirt-daemon');

/** What a guest needs for a virtio network card, in the order in which it is loaded. */
const virtioNet = [
  'drivers/virtio/virtio_ring.ko',
  'drivers/virtio/virtio.ko',
  'drivers/virtio/virtio_pci_modern_dev.ko',
  'drivers/virtio/virtio_pci_legacy_dev.ko',
  'drivers/virtio/virtio_pci.ko',
  'net/core/failover.ko',
  'drivers/net/net_failover.ko',
  'drivers/net/virtio_net.ko',
];
/** For ports of virtio-serial; needs virtio itself, which is among the former. */
const virtioConsole = 'drivers/char/virtio_console.ko';
const inModules = (file) => path.join(kernel, 'modules', path.basename(file));
const modules = virtioNet.map(inModules);

/** Programs and the Debian packages that hold them. */
const tools = {
  as: 'binutils',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  ld: 'binutils',
  chromium: 'chromium',
  cpio: 'cpio',
  curl: 'curl',
  'docker-registry': 'docker-registry',
  fincore: 'util-linux-extra',
  fio: 'fio',
  fish: 'fish',
  gdb: 'gdb',
  gzip: 'gzip',
  htpasswd: 'apache2-utils',
  jq: 'jq',
  'mkfs.xfs': 'xfsprogs',
  openssl: 'openssl',
  'qemu-img': 'qemu-utils',
  radosgw: 'radosgw',
  setpriv: 'util-linux',
  socat: 'socat',
  strace: 'strace',
  swtpm: 'swtpm',
  zsh: 'zsh',
  zstd: 'zstd',
};

/** The other processors of which guests are tested, the packages of their QEMU, and what Debian's binutils call them. */
const foreign = {
  aarch64: { qemu: 'qemu-system-arm', binutils: 'aarch64-linux-gnu' },
  ppc64: { qemu: 'qemu-system-ppc', binutils: 'powerpc64-linux-gnu' },
  riscv64: { qemu: 'qemu-system-riscv', binutils: 'riscv64-linux-gnu' },
  s390x: { qemu: 'qemu-system-s390x', binutils: 's390x-linux-gnu' },
};
for (const { binutils } of Object.values(foreign))
  for (const name of ['as', 'ld']) tools[`${binutils}-${name}`] = `binutils-${binutils}`;

/** Of QEMU 7.2: the others would take 46 MB more. */
const oldForeign = ['ppc64'];

function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

function findProgram(name) {
  return (process.env.PATH ?? '')
    .split(':')
    .map((folder) => path.join(folder || '.', name))
    .find((file) => existsSync(file));
}

/** Since when libvirt saves in QEMU's mapped-ram form. */
const LIBVIRT_SINCE = [11, 2];
const LIBVIRT_HELPER = '/usr/lib/libvirt/libvirt_iohelper';
const libvirtPackages = [
  'libvirt-clients',
  'libvirt-common',
  'libvirt-daemon-common',
  'libvirt-daemon-driver-qemu',
  'libvirt-daemon-log',
  'libvirt0',
];

/** Whether a version, of Debian or upstream, of libvirt is new enough. */
function isLibvirt(version) {
  const [major = 0, minor = 0] = version.replace(/^\d+:/, '').split('.').map(Number);
  const [sinceMajor, sinceMinor] = LIBVIRT_SINCE;
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

function qemuVersion(program) {
  return output(program, ['--version'])?.match(/version (\d+\.\d+\.\d+)/)?.[1];
}

/** For which other processors there is a QEMU of that version beside the one for x86. */
function foreignBeside(program, version) {
  return Object.keys(foreign).filter((name) => {
    const other = program.replace(/x86_64$/, name);
    return existsSync(other) && qemuVersion(other) === version;
  });
}

/** What is there now: `environment` for the tests, `missing` for people. */
function look() {
  const qemu = {};
  const missing = [];
  const current = findProgram('qemu-system-x86_64');
  const version = current && qemuVersion(current);
  if (version && Number(version.split('.')[0]) >= 10) {
    qemu['10.0'] = { program: current, version, args: [], foreign: foreignBeside(current, version) };
    const lacking = Object.keys(foreign).filter((name) => !qemu['10.0'].foreign.includes(name));
    missing.push(...lacking.map((name) => `QEMU ${version} for ${name}`));
  } else missing.push(`QEMU 10.0 or later${version ? ` (found ${version})` : ''}`);

  const old = path.join(oldQemu, 'usr/bin/qemu-system-x86_64');
  const oldVersion = existsSync(old) ? qemuVersion(old) : undefined;
  if (oldVersion) {
    const data = ['usr/share/qemu', 'usr/share/seabios'].map((folder) => path.join(oldQemu, folder));
    const args = data.flatMap((folder) => ['-L', folder]);
    qemu['7.2'] = { program: old, version: oldVersion, args, foreign: foreignBeside(old, oldVersion) };
    const lacking = oldForeign.filter((name) => !qemu['7.2'].foreign.includes(name));
    missing.push(...lacking.map((name) => `QEMU 7.2 for ${name}`));
  } else missing.push('QEMU 7.2');

  const vmlinuz = existsSync(path.join(kernel, 'boot'))
    ? readdirSync(path.join(kernel, 'boot')).find((name) => name.startsWith('vmlinuz-'))
    : undefined;
  if (!vmlinuz) missing.push('a Linux kernel');
  const hasModules = modules.every((file) => existsSync(file));
  const hasConsole = existsSync(inModules(virtioConsole));
  if (vmlinuz && !(hasModules && hasConsole)) missing.push('its modules for virtio-net and virtio-serial');
  const agent = path.join(guestAgent, 'usr/sbin/qemu-ga');
  if (!existsSync(agent)) missing.push('the QEMU guest agent');
  const shell = path.join(busybox, 'bin/busybox');
  if (!existsSync(shell)) missing.push('a static busybox');

  const found = Object.keys(tools).filter((name) => findProgram(name));
  missing.push(...Object.keys(tools).filter((name) => !found.includes(name)));
  const libvirt = findProgram('virsh') && output('virsh', ['--version'])?.trim();
  // Without its helper for saves in other forms than `sparse` libvirt is as good as none.
  if (libvirt && isLibvirt(libvirt) && existsSync(LIBVIRT_HELPER)) found.push('virsh');
  else missing.push(`libvirt ${LIBVIRT_SINCE.join('.')} or later`);
  const libvirtd = [findProgram('libvirtd'), path.join(libvirtDaemon, 'usr/sbin/libvirtd')].find(
    (file) => file && existsSync(file) && output(file, ['--version'])?.trim().endsWith(` ${libvirt}`),
  );
  if (libvirtd) found.push('libvirtd');
  else missing.push(`the daemon of libvirt ${libvirt ?? ''}`.trimEnd());
  return {
    environment: {
      qemu,
      ...(vmlinuz && { kernel: path.join(kernel, 'boot', vmlinuz) }),
      ...(hasModules && { modules }),
      ...(hasConsole && existsSync(agent) && { agent: { program: agent, module: inModules(virtioConsole) } }),
      ...(existsSync(shell) && { busybox: shell }),
      ...(libvirtd && { libvirtd }),
      tools: found,
    },
    missing,
  };
}

/** Why nothing can be fetched here, or undefined. */
function obstacle() {
  if (process.getuid?.() !== 0) return 'not root';
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  if (!/^ID=debian$/m.test(release) || !/^VERSION_ID="?12"?$/m.test(release)) return 'not Debian 12';
  if (process.arch !== 'x64') return `not x86-64 but ${process.arch}`;
  return undefined;
}

const aptOptions = [
  '-qq',
  '-o',
  'DPkg::Lock::Timeout=600',
  '-o',
  'Acquire::Retries=3',
  '-o',
  'APT::Sandbox::User=root',
];

/** Runs apt-get; mirrors and locks have passing failures, so twice more after a pause. */
async function apt(args, cwd = root) {
  for (let attempt = 1; ; attempt++) {
    const { status, stderr, error } = spawnSync('apt-get', [...aptOptions, ...args], {
      cwd,
      encoding: 'utf8',
      // With this run level no package starts its service.
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1', LC_ALL: 'C.UTF-8' },
    });
    if (status === 0) return;
    if (attempt === 3) {
      const reason = error?.message ?? stderr.trim().split('\n').slice(-3).join(' ');
      throw new Error(`apt-get ${args.join(' ')} failed: ${reason}`);
    }
    await sleep(attempt * 5000);
  }
}

/** Versions of a package that apt knows, newest first, without the epoch's say. */
function versions(name) {
  return (output('apt-cache', ['madison', name]) ?? '')
    .split('\n')
    .map((line) => line.split('|')[1]?.trim())
    .filter(Boolean);
}

const upstreamMajor = (version) => Number(version.replace(/^\d+:/, '').split('.')[0]);

/** The archive this machine already uses for Debian 12 itself, as the fields of a deb822 source. */
function configuredArchive() {
  const folder = '/etc/apt/sources.list.d';
  const files = ['/etc/apt/sources.list', ...readdirSync(folder).map((name) => path.join(folder, name))];
  for (const file of files.filter((name) => existsSync(name))) {
    const text = readFileSync(file, 'utf8');
    if (file.endsWith('.sources')) {
      for (const stanza of text.split(/\n\s*\n/)) {
        const field = (name) => stanza.match(new RegExp(`^${name}:[ \\t]*(.+)$`, 'mi'))?.[1].trim();
        if (field('Suites')?.split(/\s+/).includes('bookworm') && field('URIs') && field('Enabled') !== 'no')
          return { uri: field('URIs').split(/\s+/)[0], signedBy: field('Signed-By') };
      }
    } else if (file.endsWith('.list')) {
      const line = text.match(/^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+bookworm\s/m);
      if (line) return { uri: line[2], signedBy: line[1]?.match(/signed-by=(\S+)/)?.[1] };
    }
  }
  throw new Error('no source for the suite bookworm is configured in /etc/apt');
}

async function addBackports() {
  const { uri, signedBy } = configuredArchive();
  const lines = ['Types: deb', `URIs: ${uri}`, 'Suites: bookworm-backports', 'Components: main'];
  if (signedBy) lines.push(`Signed-By: ${signedBy}`);
  writeFileSync('/etc/apt/sources.list.d/mapram-backports.sources', `${lines.join('\n')}\n`);
  await apt(['update']);
}

/**
 * Downloads packages (`name` or `name=version`) and unpacks them into one folder, which appears complete or not at all.
 * `trim` takes away what is not needed from the folder that it is given.
 */
async function unpack(packages, target, trim = () => {}) {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(path.join(cache, 'unpack-'));
  try {
    await apt(['download', ...packages], work);
    const tree = path.join(work, 'tree');
    for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      const { status, stderr } = spawnSync('dpkg', ['-x', path.join(work, file), tree], { encoding: 'utf8' });
      if (status !== 0) throw new Error(`dpkg -x ${file} failed: ${stderr.trim()}`);
    }
    trim(tree);
    rmSync(target, { recursive: true, force: true });
    renameSync(tree, target);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Of a kernel's modules, which are most of its package, those alone that guests load. */
function keepModules(tree) {
  const lib = path.join(tree, 'lib');
  const [version] = readdirSync(path.join(lib, 'modules'));
  mkdirSync(path.join(tree, 'modules'));
  for (const file of [...virtioNet, virtioConsole])
    renameSync(
      path.join(lib, 'modules', version, 'kernel', file),
      path.join(tree, 'modules', path.basename(file)),
    );
  rmSync(lib, { recursive: true });
}

async function fetchMissing({ environment }) {
  console.log('Fetching what the tests with real virtual machines need (QEMU, a kernel, tools) …');
  await apt(['update']);
  const packages = new Set(
    Object.entries(tools)
      .filter(([name]) => !environment.tools.includes(name))
      .map(([, name]) => name),
  );
  if (packages.size > 0) await apt(['install', '-y', '--no-install-recommends', ...packages]);

  const lackingFor = (name, all) => all.filter((other) => !environment.qemu[name]?.foreign.includes(other));
  if (!environment.qemu['10.0'] || lackingFor('10.0', Object.keys(foreign)).length > 0) {
    if (!versions('qemu-system-x86').some((version) => upstreamMajor(version) >= 10)) await addBackports();
    const others = Object.values(foreign).map(({ qemu }) => qemu);
    const programs = ['qemu-system-x86', ...others, 'qemu-utils'];
    await apt(['install', '-y', '--no-install-recommends', '-t', 'bookworm-backports', ...programs]);
  }
  if (!environment.tools.includes('virsh')) {
    if (!versions('libvirt-clients').some(isLibvirt)) await addBackports();
    // These alone, and not what they need from elsewhere, which would bring half the system along.
    const fromBackports = libvirtPackages.map((name) => `${name}/bookworm-backports`);
    await apt(['install', '-y', '--no-install-recommends', ...fromBackports]);
  }
  // Not installed: it would be a service of this machine.
  if (!environment.libvirtd) {
    const version = versions('libvirt-daemon').find(isLibvirt);
    if (!version) throw new Error(`apt knows no daemon of libvirt ${LIBVIRT_SINCE.join('.')} or later`);
    await unpack([`libvirt-daemon=${version}`], libvirtDaemon);
  }
  if (!environment.qemu['7.2'] || lackingFor('7.2', oldForeign).length > 0) {
    const oldOf = (name, major) => versions(name).find((version) => upstreamMajor(version) === major);
    const version = oldOf('qemu-system-x86', 7);
    const dataVersion = oldOf('qemu-system-data', 7);
    const firmware = versions('seabios').find((candidate) => !candidate.includes('~bpo'));
    if (!version || !dataVersion || !firmware) throw new Error('apt knows no QEMU 7.2');
    await unpack(
      [
        `qemu-system-x86=${version}`,
        ...oldForeign.map((name) => `${foreign[name].qemu}=${version}`),
        `qemu-system-common=${version}`,
        `qemu-system-data=${dataVersion}`,
        `seabios=${firmware}`,
      ],
      oldQemu,
    );
    if (!qemuVersion(path.join(oldQemu, 'usr/bin/qemu-system-x86_64'))) {
      const libraries = output('apt-cache', [
        'depends',
        '--no-recommends',
        '--no-suggests',
        `qemu-system-x86=${version}`,
      ])?.match(/(?<=^ {2}Depends: )lib\S+/gm);
      await apt(['install', '-y', '--no-install-recommends', ...(libraries ?? [])]);
    }
  }
  if (!environment.kernel || !environment.modules || !existsSync(inModules(virtioConsole))) {
    const image = output('apt-cache', ['depends', 'linux-image-cloud-amd64'])?.match(
      /Depends: (linux-image-\S+)/,
    )?.[1];
    if (!image) throw new Error('apt knows no linux-image-cloud-amd64');
    await unpack([image], kernel, keepModules);
  }
  if (!environment.busybox) await unpack(['busybox-static'], busybox);
  if (!existsSync(path.join(guestAgent, 'usr/sbin/qemu-ga'))) await unpack(['qemu-guest-agent'], guestAgent);
}

/**
 * Prepares the environment and records it.
 * `required`: whatever is missing at the end is an error instead of a line that says so.
 */
export async function prepareVmEnvironment({ required }) {
  let state = look();
  let trouble;
  if (state.missing.length > 0) {
    trouble = obstacle();
    if (trouble === undefined) {
      try {
        await fetchMissing(state);
      } catch (error) {
        trouble = error.message;
      }
      state = look();
    }
  }
  mkdirSync(cache, { recursive: true });
  const file = path.join(cache, 'environment.json');
  writeFileSync(`${file}.${process.pid}`, `${JSON.stringify(state.environment, null, 2)}\n`);
  renameSync(`${file}.${process.pid}`, file);
  if (state.missing.length > 0) {
    const what = `${state.missing.join(', ')} missing${trouble ? ` (${trouble})` : ''}`;
    if (required) throw new Error(`Tests with real virtual machines are required, but: ${what}.`);
    console.log(
      `Skipping the tests that need them: ${what}. Run as root on Debian 12, or install them and run again.`,
    );
  }
  return state;
}

if (process.argv[1] === import.meta.filename) {
  try {
    const { environment } = await prepareVmEnvironment({
      required: process.env.MAPRAM_TEST_QEMU === 'required',
    });
    console.log(JSON.stringify(environment, null, 2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
