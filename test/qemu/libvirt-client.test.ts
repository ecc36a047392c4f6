/**
 * libvirt, which knows nothing of mapram, drives a QEMU 7.2 through it: saves and restores by `mapped-ram`, `multifd` and
 * `direct-io`, which that QEMU lacks.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { needs, qemuProgram, repositoryRoot } from '../support/environment.js';

/** Since when libvirt saves in QEMU's mapped-ram form. */
const SPARSE_SINCE = [11, 2] as const;

function whyNoLibvirt(): string | false {
  const wanted = `needs libvirt ${SPARSE_SINCE.join('.')} or later (bookworm-backports: libvirt-clients libvirt-daemon-driver-qemu)`;
  try {
    const version = execFileSync('virsh', ['--version'], { encoding: 'utf8' }).trim();
    const [major = 0, minor = 0] = version.split('.').map(Number);
    const [sinceMajor, sinceMinor] = SPARSE_SINCE;
    return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor) ? false : wanted;
  } catch {
    return wanted;
  }
}

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

const domain = (emulator: string) => `
<domain type='qemu'>
  <name>front</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model></cpu>
  <devices>
    <emulator>${emulator}</emulator>
    <memballoon model='none'/>
  </devices>
</domain>`;

/** libvirt within one virsh, without a daemon: its VMs end with it, unless they are left. */
class Virsh {
  readonly folder: string;
  readonly #child;
  #output = '';
  #wake = () => {};
  #ended = false;

  constructor(folder: string) {
    this.folder = folder;
    // Into a pipe it would print only when it ends.
    this.#child = spawn(
      'stdbuf',
      ['-oL', 'virsh', '-c', `qemu:///embed?root=${path.join(folder, 'libvirt')}`],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
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
    this.#child.stdin.end('quit\n');
    if (!this.#ended) await new Promise((resolve) => this.#child.once('exit', resolve));
  }
}

async function startLibvirt(t: TestContext): Promise<Virsh> {
  // Paths of Unix sockets are short.
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-lv-'));
  mkdirSync(path.join(folder, 'libvirt/etc'), { recursive: true });
  writeFileSync(path.join(folder, 'libvirt/etc/qemu.conf'), QEMU_CONF);
  const main = path.join(repositoryRoot, 'build/src/cli/main.js');
  const { program, args } = qemuProgram('7.2');
  const scripts = {
    mapram: `exec ${process.execPath} ${main} "$@"`,
    qemu: `exec ${program} ${args.join(' ')} "$@"`,
  };
  for (const [name, line] of Object.entries(scripts)) {
    writeFileSync(path.join(folder, name), `#!/bin/sh\n${line}\n`);
    chmodSync(path.join(folder, name), 0o755);
  }
  const emulator = path.join(folder, 'emulator');
  const template = readFileSync(path.join(repositoryRoot, 'docs/libvirt-emulator.sh'), 'utf8');
  writeFileSync(
    emulator,
    template
      .replace(/^QEMU=.*/m, `QEMU=${path.join(folder, 'qemu')}`)
      .replace(/^MAPRAM=.*/m, `MAPRAM=${path.join(folder, 'mapram')}`),
  );
  chmodSync(emulator, 0o755);
  writeFileSync(path.join(folder, 'domain.xml'), domain(emulator));
  const virsh = new Virsh(folder);
  t.after(async () => {
    await virsh.run('destroy front').catch(() => {});
    await virsh.quit();
    rmSync(folder, { recursive: true, force: true });
  });
  return virsh;
}

const skip = whyNoLibvirt() || needs({ qemu: '7.2' }).skip;

test('virsh saves and restores a QEMU 7.2 by mapped-ram, multifd and direct-io', {
  skip,
  timeout: 180_000,
}, async (t) => {
  const virsh = await startLibvirt(t);
  const { folder } = virsh;
  const memory = async (name: string) => {
    const file = path.join(folder, name);
    await virsh.run(`qemu-monitor-command front --hmp 'pmemsave 0 0x100000 "${file}"'`);
    return readFileSync(file);
  };
  await virsh.run(`create ${folder}/domain.xml`);
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
  assert.ok((await memory('after')).equals(before));
  await virsh.run('resume front');
  assert.match(await virsh.run('list'), /front\s+running/);
});
