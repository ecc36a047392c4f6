/** A QMP server that plays a QEMU 10 up to some command and then never answers again: nor to that connection, nor to others. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';

const MEMORY_BYTES = 64 << 20;
const RAM_BLOCKS = [
  '              Block Name    PSize              Offset               Used              Total                HVA  RO',
  '                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000 0x00007f0000000000  rw',
  '',
].join('\n');
const RAM_FIGURES = {
  total: MEMORY_BYTES,
  transferred: 1,
  remaining: 0,
  duplicate: 5,
  normal: 10,
  'normal-bytes': 40960,
  'page-size': 4096,
  mbps: 1,
  'dirty-sync-count': 1,
  'dirty-pages-rate': 0,
  'postcopy-requests': 0,
  'multifd-bytes': 0,
  'pages-per-second': 0,
  'precopy-bytes': 0,
  'downtime-bytes': 0,
  'postcopy-bytes': 0,
  'dirty-sync-missed-zero-copy': 0,
};
/** On while it migrates. */
const CAPABILITIES = ['events', 'multifd', 'mapped-ram'];

interface Request {
  execute: string;
  arguments?: Record<string, unknown>;
  id: number;
}

export class SilentQemu implements AsyncDisposable {
  /** Commands that were answered, `qmp_capabilities` included. */
  answered = 0;
  /** Resolves when the first command was not, or when a stream is waited for: that never comes either. */
  readonly silent: Promise<void>;
  /** Names of the commands, answered or not. */
  readonly commands: string[] = [];
  #fallSilent: () => void = () => {};
  #migrated = false;
  #stopped = false;
  /** Whether a migration to a file goes on until it is told that any downtime will do. */
  #slowDisk = false;
  readonly #folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-silent-'));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(private readonly answers: number) {
    this.silent = new Promise((resolve) => {
      this.#fallSilent = resolve;
    });
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /**
   * @param answers how many commands are answered
   * @param options.slowDisk whether a migration to a file goes on until it is told that any downtime will do
   */
  static async start(answers: number, { slowDisk = false } = {}): Promise<SilentQemu> {
    const qemu = new SilentQemu(answers);
    qemu.#slowDisk = slowDisk;
    await new Promise<void>((resolve) => qemu.#server.listen(qemu.qmpPath, resolve));
    return qemu;
  }

  get folder(): string {
    return this.#folder;
  }

  get qmpPath(): string {
    return path.join(this.#folder, 'qmp.sock');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    const say = (message: object) => socket.write(`${JSON.stringify(message)}\r\n`);
    if (this.answered < this.answers)
      say({ QMP: { version: { qemu: { major: 10, minor: 0, micro: 2 }, package: '' }, capabilities: [] } });
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end).trim();
        text = text.slice(end + 1);
        if (line === '') continue;
        const request = JSON.parse(line) as Request;
        this.commands.push(request.execute);
        if (this.answered === this.answers) this.#fallSilent();
        else {
          this.answered++;
          say({ return: this.#reply(request), id: request.id });
        }
      }
    });
  }

  #reply({ execute, arguments: args = {} }: Request): unknown {
    switch (execute) {
      case 'query-status':
        return this.#stopped ? { status: 'paused', running: false } : { status: 'running', running: true };
      case 'stop':
      case 'cont':
        this.#stopped = execute === 'stop';
        return {};
      case 'migrate-set-parameters':
        if (this.#migrated && 'downtime-limit' in args) this.#slowDisk = false;
        return {};
      case 'migrate':
        this.#migrated = true;
        if (!String(args.uri).startsWith('file:')) this.#fallSilent();
        return {};
      case 'query-migrate':
        if (!this.#migrated) return {};
        return { status: this.#slowDisk ? 'active' : 'completed', ram: RAM_FIGURES };
      case 'qom-get':
        return args.path === '/machine' ? 'pc-q35-10.0-machine' : 'x';
      case 'human-monitor-command':
        return RAM_BLOCKS;
      case 'query-uuid':
        return { UUID: '00000000-0000-0000-0000-000000000000' };
      case 'query-migrate-capabilities':
        return CAPABILITIES.map((capability) => ({ capability, state: this.#migrated }));
      case 'query-migrate-parameters':
        return { 'multifd-channels': 2, 'downtime-limit': 300, 'max-bandwidth': 1, 'direct-io': false };
      case 'query-cpus-fast':
      case 'query-block':
      case 'query-migrationthreads':
        return [];
      case 'add-fd':
        return { 'fdset-id': 0, fd: 9 };
      default:
        return {};
    }
  }
}
