// Makes the golden files of this folder anew: real files and streams of real QEMUs, compressed, and beside each what
// QEMU itself says about the VM it saved: nothing in the .json files comes from the code under test.
//
//   node test/golden/make.mjs [NAME…]
//
// QEMU      qemu-system-x86_64 of version 10.0 (that in PATH by default)
// QEMU_7_2  the same of version 7.2, with its options if it needs any, e.g. "/opt/qemu-7.2/bin/qemu-system-x86_64 -L …"
// QEMU_AARCH64, QEMU_RISCV64  qemu-system-aarch64 and qemu-system-riscv64 of version 10.0
//
// Files whose QEMU is not named or found are left as they are.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync } from 'node:zlib';
import { firmware, ramBlock, sha256 } from './made-with.mjs';

const PROGRAMS = {
  '10.0': process.env.QEMU ?? 'qemu-system-x86_64',
  7.2: process.env.QEMU_7_2,
  aarch64: process.env.QEMU_AARCH64,
  riscv64: process.env.QEMU_RISCV64,
};

const PC = ['-machine', 'pc', '-m', '2'];

/**
 * qemu: key of PROGRAMS. via: `file`, or `socket` for what is sent to a Unix socket. live: saved while the guest runs.
 * files: made in the working folder first, name → bytes.
 */
const IMAGES = {
  'pc-10.0-mapped-ram': { args: PC, capabilities: ['mapped-ram'] },
  'pc-10.0-mapped-ram-offset': { args: PC, capabilities: ['mapped-ram'], offset: 0x1234 },
  'q35-10.0-mapped-ram-multifd': {
    args: [
      ...['-machine', 'q35', '-m', '4', '-uuid', '12345678-9abc-def0-0123-456789abcdef'],
      ...['-device', 'virtio-rng-pci', '-device', 'nec-usb-xhci', '-device', 'usb-tablet'],
      ...['-drive', 'if=none,id=disk,file=null-co://,format=raw', '-device', 'virtio-blk-pci,drive=disk'],
    ],
    capabilities: ['mapped-ram', 'multifd', 'validate-uuid'],
    parameters: { 'multifd-channels': 2 },
  },
  'microvm-10.0-mapped-ram': { args: ['-machine', 'microvm', '-m', '2'], capabilities: ['mapped-ram'] },
  // No block is shared here: QEMU 10.0 fails to save one this way, for want of a bitmap.
  'pc-10.0-mapped-ram-ignore-shared': {
    args: PC,
    capabilities: ['mapped-ram', 'x-ignore-shared'],
  },
  'pc-10.0-mapped-ram-live': {
    args: PC,
    capabilities: ['mapped-ram'],
    parameters: { 'max-bandwidth': 2 ** 18, 'downtime-limit': 1 },
    firmware: 'flipping',
    live: true,
  },
  'pc-10.0-stream': { args: PC, via: 'socket' },
  'pc-10.0-stream-ignore-shared': {
    args: ['-machine', 'pc,memory-backend=ram', '-m', '2', ...backend('ram', 2)],
    capabilities: ['x-ignore-shared'],
    via: 'socket',
  },
  'pc-10.0-stream-no-description': { args: ['-machine', 'pc,suppress-vmdesc=on', '-m', '2'], via: 'socket' },
  // QEMU 10.0 aborts without configuration.
  'pc-7.2-stream-bare': {
    qemu: '7.2',
    args: [
      ...['-machine', 'pc', '-m', '2', '-global', 'migration.send-configuration=off'],
      ...['-global', 'migration.send-section-footer=off'],
    ],
    via: 'socket',
  },
  'q35-10.0-stream-virtio-mem': {
    args: [
      ...['-machine', 'q35', '-m', '4,slots=1,maxmem=1G', '-object', 'memory-backend-ram,id=plug,size=128M'],
      ...['-device', 'virtio-mem-pci,memdev=plug,requested-size=0,block-size=4M'],
    ],
    via: 'socket',
  },
  'q35-10.0-mapped-ram-virtio-mem': {
    args: [
      ...['-machine', 'q35', '-m', '4,slots=1,maxmem=1G', '-object', 'memory-backend-ram,id=plug,size=8M'],
      ...['-device', 'virtio-mem-pci,memdev=plug,requested-size=0,block-size=4M'],
    ],
    capabilities: ['mapped-ram'],
  },
  'pc-10.0-stream-dirty-bitmap': {
    args: [...PC, '-blockdev', 'driver=null-co,size=1048576,read-zeroes=on,node-name=disk'],
    capabilities: ['dirty-bitmaps'],
    before: [['block-dirty-bitmap-add', { node: 'disk', name: 'changes' }]],
    via: 'socket',
  },
  'pc-10.0-stream-xbzrle': {
    args: PC,
    capabilities: ['xbzrle'],
    parameters: { 'max-bandwidth': 2 ** 18, 'downtime-limit': 1 },
    firmware: 'counting',
    via: 'socket',
    live: true,
  },
  'pc-10.0-multifd': {
    args: PC,
    capabilities: ['multifd'],
    parameters: { 'multifd-channels': 2 },
    via: 'socket',
  },
  'pc-7.2-stream': { qemu: '7.2', args: PC, via: 'socket' },
  'pc-7.2-stream-compress': { qemu: '7.2', args: PC, capabilities: ['compress'], via: 'socket' },
  'pc-7.2-multifd-zlib': {
    qemu: '7.2',
    args: PC,
    capabilities: ['multifd'],
    parameters: { 'multifd-channels': 2, 'multifd-compression': 'zlib' },
    via: 'socket',
  },
  'virt-aarch64-10.0-mapped-ram': {
    qemu: 'aarch64',
    args: ['-machine', 'virt', '-cpu', 'cortex-a57', '-m', '2'],
    capabilities: ['mapped-ram'],
    firmware: 'none',
  },
  'virt-riscv64-10.0-mapped-ram': {
    qemu: 'riscv64',
    args: ['-machine', 'virt', '-m', '2', '-bios', 'none'],
    capabilities: ['mapped-ram'],
    firmware: 'none',
  },
};

function backend(id, mebibytes) {
  return ['-object', `memory-backend-file,id=${id},size=${mebibytes}M,mem-path=${id}.img,share=on`];
}

class Monitor {
  #socket;
  #text = '';
  #replies = [];
  #waiting = [];

  static async connect(socketPath) {
    for (let attempt = 0; ; attempt++) {
      try {
        const socket = await new Promise((resolve, reject) => {
          const opening = connect(socketPath, () => resolve(opening)).on('error', reject);
        });
        const monitor = new Monitor(socket);
        await monitor.#next();
        await monitor.run('qmp_capabilities');
        return monitor;
      } catch (error) {
        if (attempt === 100) throw error;
        await sleep(50);
      }
    }
  }

  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#text += chunk;
      for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
        const message = JSON.parse(this.#text.slice(0, end));
        this.#text = this.#text.slice(end + 1);
        if (message.event !== undefined) continue;
        const waiter = this.#waiting.shift();
        if (waiter) waiter(message);
        else this.#replies.push(message);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const waiter of this.#waiting) waiter({ error: { desc: 'QEMU is gone' } });
    });
  }

  async run(execute, args = {}) {
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    const reply = await this.#next();
    if (reply.error) throw new Error(`${execute}: ${reply.error.desc}`);
    return reply.return;
  }

  #next() {
    if (this.#replies.length > 0) return Promise.resolve(this.#replies.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** Collects what is sent to a Unix socket: one stream a connection, all in one file where there is only one. */
function receive(socketPath) {
  const streams = [];
  const server = createServer((connection) => {
    const chunks = [];
    streams.push(
      new Promise((resolve) => {
        connection.on('data', (chunk) => chunks.push(chunk));
        connection.on('close', () => resolve(Buffer.concat(chunks)));
        connection.on('error', () => {});
      }),
    );
  });
  return new Promise((resolve) => {
    server.listen(socketPath, () => {
      resolve(async () => {
        const all = await Promise.all(streams);
        server.close();
        return all;
      });
    });
  });
}

async function make(name, image, program, folder) {
  const inFolder = (file) => path.join(folder, file);
  const kind = image.firmware ?? 'halting';
  const args = [...image.args, '-accel', 'tcg', '-display', 'none', '-nodefaults', '-S'];
  if (kind !== 'none') {
    writeFileSync(inFolder('firmware'), firmware(kind));
    args.push('-bios', 'firmware', '-cpu', 'qemu64');
  }
  args.push('-qmp', 'unix:qmp,server=on,wait=off');
  const [command, ...options] = program.split(' ');
  const qemu = spawn(command, [...options, ...args], {
    cwd: folder,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const exit = new Promise((resolve) => qemu.on('exit', resolve));
  try {
    const monitor = await Monitor.connect(inFolder('qmp'));
    const hmp = (line) => monitor.run('human-monitor-command', { 'command-line': line });
    for (const [step, stepArguments] of image.before ?? []) await monitor.run(step, stepArguments);
    await monitor.run('cont');
    await sleep(300);
    if (!image.live) await monitor.run('stop');
    const capabilities = image.capabilities ?? [];
    await monitor.run('migrate-set-capabilities', {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    });
    if (image.parameters) await monitor.run('migrate-set-parameters', image.parameters);
    const offset = image.offset ?? 0;
    const viaSocket = image.via === 'socket';
    const received = viaSocket ? await receive(inFolder('migration')) : undefined;
    const place = offset === 0 ? '' : `,offset=${offset}`;
    await monitor.run('migrate', { uri: viaSocket ? 'unix:migration' : `file:image${place}` });
    let migration = {};
    for (let round = 0; migration.status !== 'completed'; round++) {
      migration = await monitor.run('query-migrate');
      if (migration.status === 'failed') throw new Error(`${name}: ${migration['error-desc']}`);
      // A guest that never rests is stopped after it has been saved live for a while.
      if (image.live && round === 100) await monitor.run('stop');
      await sleep(20);
    }
    const streams = viaSocket ? await received() : [readFileSync(inFolder('image'))];
    await monitor.run('pmemsave', { val: 0, size: 0xa0000, filename: 'low-memory' });
    const expected = {
      version: (await monitor.run('query-version')).package || (await hmp('info version')).trim(),
      arguments: image.args,
      capabilities,
      offset,
      migration: { normal: migration.ram.normal, duplicate: migration.ram.duplicate },
      xbzrlePages: migration['xbzrle-cache']?.pages,
      ramBlocks: (await hmp('info ramblock')).trim().split(/\r?\n/).slice(1).map(ramBlock),
      lowMemorySha256: kind === 'none' ? undefined : sha256(readFileSync(inFolder('low-memory'))),
      registers: (await hmp('info registers')).trim().split(/\r?\n/),
      streams: streams.length,
    };
    await monitor.run('quit');
    streams.sort((a, b) => rank(a) - rank(b));
    for (const [index, bytes] of streams.entries()) {
      const file = `${name}${index === 0 ? '' : `.channel-${index - 1}`}.br`;
      const compressed = brotliCompressSync(bytes);
      writeFileSync(path.join(import.meta.dirname, file), compressed);
      console.log(`${file}: ${bytes.length} bytes, ${compressed.length} compressed`);
    }
    writeFileSync(path.join(import.meta.dirname, `${name}.json`), `${JSON.stringify(expected, null, 2)}\n`);
  } finally {
    qemu.kill();
    await exit;
  }
}

/** The main channel first, then multifd channels by their number. */
function rank(stream) {
  return stream.readUInt32BE(0) === 0x11223344 ? stream[24] + 1 : 0;
}

const wanted = process.argv.slice(2);
for (const [name, image] of Object.entries(IMAGES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const program = PROGRAMS[image.qemu ?? '10.0'];
  if (program === undefined || spawnSync(program.split(' ')[0], ['--version']).error) {
    console.log(`${name}: left as it is, there is no QEMU for it`);
    continue;
  }
  const folder = mkdtempSync(path.join(tmpdir(), 'mapram-golden-'));
  try {
    if (image.args.some((argument) => argument.includes('mem-path=ram.img'))) {
      writeFileSync(path.join(folder, 'ram.img'), '');
      truncateSync(path.join(folder, 'ram.img'), 2 * 2 ** 20);
    }
    await make(name, image, program, folder);
  } finally {
    if (existsSync(folder)) rmSync(folder, { recursive: true });
  }
}
