/**
 * libvirt, which knows nothing of mapram: it drives a QEMU 7.2 through it, saves and restores by `mapped-ram`, `multifd` and
 * `direct-io`, which that QEMU lacks; and mapram resumes what it has saved.
 */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { convert } from '../../src/snapshot/convert/convert.js';
import { convertToMappedRam } from '../../src/snapshot/convert/convert-mapped-ram.js';
import { convertToStream } from '../../src/snapshot/convert/convert-stream.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { planResume, resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { encodeLibvirtData, encodeLibvirtHeader } from '../../src/stream/libvirt-header.js';
import { codeBlocks, putProgram } from '../docs/documents.js';
import { needs, qemuProgram, repositoryRoot } from '../support/environment.js';
import { QmpSession } from '../support/qmp-session.js';
import { killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const QEMU_CONF = `
save_image_format = "sparse"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
security_driver = "none"
user = "${os.userInfo().username}"
group = "+${process.getgid?.()}"
`;

interface Domain {
  name: string;
  machine: string;
  emulator: string;
}

/** A card that libvirt needs no rights for. */
const USER_CARD = {
  devices: `<interface type='user'><mac address='52:54:00:01:02:03'/><model type='virtio'/></interface>`,
};

/** A monitor beside libvirt's own. */
const MONITOR = {
  commandLine: (folder: string) =>
    `<qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:${folder}/web.qmp,server=on,wait=off'/></qemu:commandline>`,
};

interface Extras {
  devices?: string;
  commandLine?: (folder: string) => string;
}

const domainXml = ({ name, machine, emulator }: Domain, folder: string, extras: Extras) => `
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='${machine}'>hvm</type></os>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model></cpu>
  <devices>
    <emulator>${emulator}</emulator>
    <memballoon model='none'/>
    ${extras.devices ?? ''}
  </devices>
  ${extras.commandLine?.(folder) ?? ''}
</domain>`;

/** libvirt within one virsh, without a daemon: its VMs end with it, unless they are left. */
class Virsh {
  readonly #child;
  #output = '';
  #wake = () => {};
  #ended = false;

  constructor(folder: string) {
    // Into a pipe it would print only when it ends.
    this.#child = spawn('stdbuf', ['-oL', 'virsh', '-c', connectionIn(folder)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.once('exit', () => {
      this.#ended = true;
      this.#wake();
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        this.#wake();
      });
    }
  }

  /** Runs a command and gives what it printed. */
  async run(command: string): Promise<string> {
    const end = `end of ${Math.random()}`;
    this.#output = '';
    this.#child.stdin.write(`${command}\necho ${end}\n`);
    while (!this.#output.includes(`\n${end}\n`)) {
      assert.ok(!this.#ended, this.#output);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const printed = this.#output.slice(0, this.#output.indexOf(`\n${end}\n`));
    assert.doesNotMatch(printed, /^error:/m);
    return printed;
  }

  async quit(): Promise<void> {
    if (this.#ended) return;
    this.#child.stdin.end('quit\n');
    await new Promise((resolve) => this.#child.once('exit', resolve));
  }
}

/** Its connection, without a daemon. */
const connectionIn = (folder: string) => `qemu:///embed?root=${path.join(folder, 'libvirt')}`;

/** A libvirt with a running VM. */
async function startLibvirt(
  t: TestContext,
  folder: string,
  name: string,
  machine: string,
  emulator: string,
  extras: Extras = {},
): Promise<Virsh> {
  mkdirSync(path.join(folder, 'libvirt/etc'), { recursive: true });
  writeFileSync(path.join(folder, 'libvirt/etc/qemu.conf'), QEMU_CONF);
  writeFileSync(path.join(folder, 'domain.xml'), domainXml({ name, machine, emulator }, folder, extras));
  const virsh = new Virsh(folder);
  t.after(async () => {
    await virsh.quit();
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });
  await virsh.run(`create ${folder}/domain.xml`);
  return virsh;
}

/** Paths of Unix sockets are short. */
const makeFolder = () => temporaryFolder('lv');

/** docs/libvirt-emulator.sh, with a QEMU 7.2 and the mapram of this repository. */
function emulatorIn(folder: string): string {
  putProgram(path.join(folder, 'bin'), main);
  const { program, args } = qemuProgram('7.2');
  const qemu = path.join(folder, 'bin', 'qemu');
  writeFileSync(qemu, `#!/bin/sh\nexec ${program} ${args.join(' ')} "$@"\n`, { mode: 0o755 });
  const emulator = path.join(folder, 'emulator');
  const template = readFileSync(path.join(repositoryRoot, 'docs/libvirt-emulator.sh'), 'utf8')
    .replace(/^QEMU=.*/m, `QEMU=${qemu}`)
    .replace(/^MAPRAM=.*/m, `MAPRAM=${path.join(folder, 'bin', 'mapram')}`);
  writeFileSync(emulator, template, { mode: 0o755 });
  return emulator;
}

const main = path.join(repositoryRoot, 'build/src/cli/main.js');

test('virsh saves and restores a QEMU 7.2 by mapped-ram, multifd and direct-io', {
  ...needs({ qemu: '7.2', tools: ['virsh'] }),
  timeout: 180_000,
}, async (t) => {
  const folder = makeFolder();
  const virsh = await startLibvirt(t, folder, 'front', 'pc-q35-7.2', emulatorIn(folder));
  const memory = async (name: string) => {
    const file = path.join(folder, name);
    await virsh.run(`qemu-monitor-command front --hmp 'pmemsave 0 0x100000 "${file}"'`);
    return readFileSync(file);
  };
  assert.match(await virsh.run('qemu-monitor-command front --hmp "info version"'), /7\.2\./);
  await virsh.run('suspend front');
  const before = await memory('before');

  const image = path.join(folder, 'front.save');
  await virsh.run(`save front ${image} --bypass-cache --parallel-channels 2`);
  assert.doesNotMatch(await virsh.run('list --all'), /front/);
  {
    await using saved = await MappedRamImage.open(image);
    assert.equal(saved.container.kind, 'libvirt');
    assert.deepEqual(await checkImage(saved), []);
  }

  await virsh.run(`restore ${image} --bypass-cache --parallel-channels 2 --paused`);
  assert.match(await virsh.run('list'), /front\s+paused/);
  assert.ok((await memory('after')).equals(before), 'the restored VM has other memory');
  await virsh.run('resume front');
  assert.match(await virsh.run('list'), /front\s+running/);
});

/** The same image as libvirt saves it by `--image-format raw`, for which this machine lacks a helper program. */
async function writeAsRaw(sparse: string, output: string): Promise<void> {
  await using saved = await openSavedVm(sparse);
  const stream = `${output}.stream`;
  await convertToStream.convert(saved, { output: stream });
  const { libvirt } = saved.container;
  assert.ok(libvirt, 'there is no libvirt');
  const header = encodeLibvirtHeader({ ...libvirt.header, format: 'raw' });
  writeFileSync(
    output,
    Buffer.concat([header, encodeLibvirtData(libvirt.header, libvirt), readFileSync(stream)]),
  );
}

test('virsh restores a raw image that mapram has converted to mapped-ram (guests 8)', {
  ...needs({ qemu: '10.0', tools: ['virsh'] }),
  timeout: 180_000,
}, async (t) => {
  const folder = makeFolder();
  const virsh = await startLibvirt(t, folder, 'raw', 'q35', qemuProgram('10.0').program);
  await virsh.run(`save raw ${folder}/sparse.save --image-format sparse`);
  await writeAsRaw(`${folder}/sparse.save`, `${folder}/raw.save`);
  {
    await using saved = await openSavedVm(`${folder}/raw.save`);
    await convertToMappedRam.convert(saved, { output: `${folder}/converted.save` });
  }
  await virsh.run(`restore ${folder}/converted.save`);
  assert.match(await virsh.run('list'), /raw\s+running/);
});

test('virsh saves through mapram by streams as well, which QEMU gets a descriptor for, and none stays open (guests 4)', {
  ...needs({ qemu: '7.2', tools: ['virsh', 'gzip', 'zstd'] }),
  timeout: 240_000,
}, async (t) => {
  const folder = makeFolder();
  const virsh = await startLibvirt(t, folder, 'front', 'pc-q35-7.2', emulatorIn(folder));
  for (const format of ['raw', 'gzip', 'zstd']) {
    const image = path.join(folder, `front.${format}`);
    await virsh.run(`save front ${image} --image-format ${format}`);
    assert.doesNotMatch(await virsh.run('list --all'), /front/);
    assert.equal(readFileSync(image).subarray(0, 16).toString('latin1'), 'LibvirtQemudSave');
    await virsh.run(`restore ${image}`);
    assert.match(await virsh.run('list'), /front\s+running/);
  }
  // A domain that is running becomes a persistent one by its UUID.
  const uuid = /[0-9a-f-]{36}/.exec(await virsh.run('domuuid front'))?.[0];
  const domain = readFileSync(path.join(folder, 'domain.xml'), 'utf8');
  writeFileSync(path.join(folder, 'domain.xml'), domain.replace('</name>', `</name><uuid>${uuid}</uuid>`));
  await virsh.run(`define ${folder}/domain.xml`);
  await virsh.run('managedsave front');
  assert.match(await virsh.run('list --all'), /front\s+shut off/);
  await virsh.run('start front');
  assert.match(await virsh.run('list'), /front\s+running/);
});

const [translated] = codeBlocks('docs/libvirt.md', 'sh').filter(({ code }) => code.includes('virsh'));

test(`${translated?.where}: mapram resumes what virsh has saved, with the command line that libvirt makes`, {
  ...needs({ qemu: '10.0', tools: ['virsh'] }),
  timeout: 180_000,
}, async (t) => {
  const folder = makeFolder();
  const virsh = await startLibvirt(t, folder, 'web', 'q35', qemuProgram('10.0').program);
  await virsh.run(`save web ${folder}/web.save --image-format sparse`);
  await virsh.quit();

  putProgram(path.join(folder, 'bin'), main);
  mkdirSync(path.join(folder, 'run'));
  const script = translated?.code.replaceAll('/run/', `${folder}/run/`) ?? '';
  const { status, stderr } = spawnSync('/bin/bash', ['-euc', script], {
    cwd: folder,
    encoding: 'utf8',
    env: {
      ...process.env,
      PATH: `${folder}/bin:${process.env.PATH}`,
      VIRSH_DEFAULT_CONNECT_URI: connectionIn(folder),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  assert.equal(status, 0, stderr);
  const qmp = await QmpSession.open(path.join(folder, 'run', 'web.qmp'));
  assert.equal((await qmp.execute<{ status: string }>('query-status')).status, 'running');
  assert.equal((await qmp.execute<{ name: string }>('query-name')).name, 'web');
  qmp.close();
});

test('mapram resumes and forks what virsh has saved by asking libvirt for the command line, its network card included', {
  ...needs({ qemu: '10.0', tools: ['virsh'] }),
  timeout: 180_000,
}, async (t) => {
  const folder = makeFolder();
  const { program } = qemuProgram('10.0');
  const virsh = await startLibvirt(t, folder, 'web', 'q35', program, USER_CARD);
  const file = `${folder}/web.save`;
  await virsh.run(`save web ${file} --image-format sparse`);
  await virsh.quit();
  const before = process.env.VIRSH_DEFAULT_CONNECT_URI;
  process.env.VIRSH_DEFAULT_CONNECT_URI = connectionIn(folder);
  try {
    const options = { file, onWarning: () => {} };
    const qmp = `${folder}/web.qmp`;
    await assert.rejects(resume({ ...options, qmp }), { code: 'UNTRUSTED' });
    const plan = await planResume({ ...options, qmp });
    assert.equal(plan.trust.origin, 'unknown');
    assert.equal(plan.command[0], program);
    assert.doesNotMatch(plan.command.join(' '), /masterKey0|charmonitor| -S /);
    await using vm = await resume({ ...options, qmp, trust: plan.fingerprint });
    assert.equal(vm.facts.runState, 'running');
    assert.equal(((await vm.qmp().execute('query-name')) as { name: string }).name, 'web');
    assert.match(
      await vm.qmp().execute('human-monitor-command', { 'command-line': 'info network' }),
      /52:54:00:01:02:03/,
    );
    await vm.close();
    await using clones = await fork({ ...options, count: 2, trust: true });
    assert.deepEqual(
      clones.vms.map(({ facts }) => facts.runState),
      ['running', 'running'],
    );
  } finally {
    if (before === undefined) delete process.env.VIRSH_DEFAULT_CONNECT_URI;
    else process.env.VIRSH_DEFAULT_CONNECT_URI = before;
  }
});

test("virsh restores what mapram has saved, with the domain's XML in front of it", {
  ...needs({ qemu: '10.0', tools: ['virsh'] }),
  timeout: 180_000,
}, async (t) => {
  const folder = makeFolder();
  const virsh = await startLibvirt(t, folder, 'web', 'q35', qemuProgram('10.0').program, MONITOR);
  const printed = await virsh.run('dumpxml --security-info --migratable web');
  const xml = /<domain[\s\S]*<\/domain>/.exec(printed)?.[0] as string;
  const file = `${folder}/web.mapram`;
  const memory = async (name: string) => {
    await virsh.run(`qemu-monitor-command web --hmp 'pmemsave 0 0x100000 "${folder}/${name}"'`);
    return readFileSync(`${folder}/${name}`);
  };
  for (const [method, state] of [
    ['native', 'running'],
    ['stream', 'paused'],
  ] as const) {
    if (state === 'paused') await virsh.run('suspend web');
    await save({ vm: `${folder}/web.qmp`, file, method, force: true, onWarning: () => {} });
    const image = `${folder}/${method}.save`;
    await convert({ file, to: 'libvirt', output: image, domainXml: xml });
    {
      await using saved = await MappedRamImage.open(image);
      assert.deepEqual(checkImage(saved), []);
      assert.equal(saved.container.libvirt?.header.wasRunning, state === 'running');
    }
    const before = state === 'paused' ? await memory('before') : undefined;
    await virsh.run('destroy web');
    await virsh.run(`restore ${image}`);
    assert.match(await virsh.run('list'), new RegExp(`web\\s+${state}`));
    if (before) assert.ok((await memory('after')).equals(before));
  }
});
