// Makes the golden files of libvirt anew: `virsh save` of a small VM in every form that mapped-ram or a stream can have
// there, and beside each what QEMU said about the VM before.
//
//   node test/golden/make-libvirt.mjs
//
// Needs libvirt 11.3 or later, `virsh` and a running libvirtd that emulates x86, e.g. as root
//   libvirtd -d, with in /etc/libvirt/qemu.conf: user = "root", security_driver = "none", stdio_handler = "file"
// The names in the files are those of nobody's machine: the firmware and the saves go to /var/lib/vm.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync } from 'node:zlib';
import { firmware, ramBlock, sha256 } from './made-with.mjs';

const FORMATS = ['sparse', 'raw', 'gzip', 'zstd'];
const folder = '/var/lib/vm';
const name = 'web';
const DOMAIN = `<domain type='qemu'>
  <name>${name}</name>
  <uuid>12345678-9abc-4ef0-8123-456789abcdef</uuid>
  <memory unit='KiB'>2048</memory>
  <os>
    <type arch='x86_64' machine='pc-i440fx-10.0'>hvm</type>
    <loader readonly='yes' type='rom'>${folder}/firmware</loader>
  </os>
  <features><acpi/></features>
  <cpu mode='custom'><model>qemu64</model></cpu>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='null'/>
  </devices>
</domain>
`;

function virsh(...args) {
  const { status, stdout, stderr, error } = spawnSync('virsh', ['--quiet', '-c', 'qemu:///system', ...args], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`virsh ${args[0]}: ${error?.message ?? stderr.trim()}`);
  return stdout.trim();
}

const hmp = (line) => virsh('qemu-monitor-command', name, '--hmp', line);

async function make(format) {
  const domain = path.join(folder, `${name}.xml`);
  const saved = path.join(folder, `${name}.save`);
  const lowMemory = path.join(folder, 'low-memory');
  const files = [domain, saved, lowMemory, path.join(folder, 'firmware')];
  mkdirSync(folder, { recursive: true });
  try {
    writeFileSync(domain, DOMAIN);
    writeFileSync(path.join(folder, 'firmware'), firmware('halting'));
    virsh('create', domain);
    await sleep(300);
    virsh('suspend', name);
    // Quoted: `/` divides.
    hmp(`pmemsave 0 0xa0000 "${lowMemory}"`);
    const expected = {
      version: hmp('info version'),
      libvirt: virsh('--version'),
      arguments: ['-machine', 'pc-i440fx-10.0', '-m', '2'],
      capabilities: format === 'sparse' ? ['mapped-ram'] : [],
      offset: 0,
      ramBlocks: hmp('info ramblock').split(/\r?\n/).slice(1).map(ramBlock),
      lowMemorySha256: sha256(readFileSync(lowMemory)),
      registers: hmp('info registers').split(/\r?\n/),
      streams: 1,
    };
    virsh('save', name, saved, '--image-format', format);
    const bytes = readFileSync(saved);
    const compressed = brotliCompressSync(bytes);
    const golden = path.join(import.meta.dirname, `libvirt-11.3-${format}`);
    writeFileSync(`${golden}.br`, compressed);
    writeFileSync(`${golden}.json`, `${JSON.stringify(expected, null, 2)}\n`);
    console.log(`${path.basename(golden)}: ${bytes.length} bytes, ${compressed.length} compressed`);
  } finally {
    spawnSync('virsh', ['--quiet', '-c', 'qemu:///system', 'destroy', name]);
    for (const file of files) rmSync(file, { force: true });
  }
}

for (const format of FORMATS) await make(format);
