/**
 * A QMP server that plays a QEMU with a guest of nothing but a run state, and sends whatever a test wants as its migration
 * stream: what a real QEMU never sends, a lying one may.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { isAtLeast, type QemuRelease } from '../../src/options/qemu-profile.js';

interface Request {
  execute: string;
  arguments?: Record<string, unknown>;
  id: number;
}

const DEFAULT_VERSION: QemuRelease = [7, 2];
const NO_DESCRIPTOR = { class: 'GenericError', desc: 'No file descriptor supplied via SCM_RIGHTS' };

export interface FakeQemuOptions {
  version?: QemuRelease;
  /** Beside `multifd` and `events`; those of its release by default. */
  capabilities?: readonly string[];
  /** Beside `max-bandwidth`, all false; those of its release by default. */
  parameters?: readonly string[];
  /** Called when the migration begins, with the path that QEMU is told to connect to. */
  migrate(socketPath: string, qemu: FakeQemu): void | Promise<void>;
  /** An answer of its own to a command; undefined: the usual one. `ERROR`: an error. */
  answer?(execute: string, args: Record<string, unknown>): unknown;
}

export const ERROR = Symbol('error');

export class FakeQemu implements AsyncDisposable {
  runState = 'running';
  migrationStatus = 'none';
  /** Commands in the order in which they came. */
  readonly commands: string[] = [];
  readonly #folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-fake-'));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #options: FakeQemuOptions;

  private constructor(options: FakeQemuOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  static async start(options: FakeQemuOptions): Promise<FakeQemu> {
    const qemu = new FakeQemu(options);
    await new Promise<void>((resolve) => qemu.#server.listen(qemu.qmpPath, resolve));
    return qemu;
  }

  get qmpPath(): string {
    return path.join(this.#folder, 'qmp.sock');
  }

  /** A connection as QEMU's migration makes it. */
  async connect(socketPath: string): Promise<Socket> {
    const socket = connect(socketPath);
    socket.on('error', () => {});
    this.#sockets.add(socket);
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return socket;
  }

  /** Sends a whole connection's worth of bytes. */
  async send(socketPath: string, bytes: Uint8Array): Promise<void> {
    (await this.connect(socketPath)).end(bytes);
  }

  /** As when the process is killed. */
  die(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.die();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #serve(socket: Socket): void {
    const [major, minor] = this.#options.version ?? DEFAULT_VERSION;
    this.#sockets.add(socket);
    socket.on('error', () => {});
    const say = (message: object) => socket.write(`${JSON.stringify(message)}\r\n`);
    say({ QMP: { version: { qemu: { major, minor, micro: 0 }, package: '' }, capabilities: [] } });
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const request = JSON.parse(text.slice(0, end)) as Request;
        text = text.slice(end + 1);
        this.commands.push(request.execute);
        // Node's sockets drop the descriptor that came along.
        const { id } = request;
        const answer = this.#options.answer?.(request.execute, request.arguments ?? {});
        if (request.execute === 'getfd') say({ error: NO_DESCRIPTOR, id });
        else if (answer === ERROR) say({ error: { class: 'GenericError', desc: 'no' }, id });
        else say({ return: answer === undefined ? this.#answer(request) : answer, id });
      }
    });
  }

  #shown(what: 'capabilities' | 'parameters'): readonly string[] {
    const { version = DEFAULT_VERSION, [what]: wanted } = this.#options;
    if (wanted !== undefined) return wanted;
    if (what === 'capabilities') return isAtLeast(version, [9, 0]) ? ['mapped-ram'] : [];
    return isAtLeast(version, [9, 1]) ? ['direct-io'] : [];
  }

  #answer({ execute, arguments: args = {} }: Request): unknown {
    switch (execute) {
      case 'query-status':
        return { status: this.runState, running: this.runState === 'running' };
      case 'query-migrate':
        return this.migrationStatus === 'none' ? {} : { status: this.migrationStatus };
      case 'query-migrate-capabilities':
        return ['multifd', 'events', ...this.#shown('capabilities')].map((capability) => ({
          capability,
          state: false,
        }));
      case 'query-migrate-parameters':
        return {
          'max-bandwidth': 0,
          ...Object.fromEntries(this.#shown('parameters').map((name) => [name, false])),
        };
      case 'query-uuid':
        return { UUID: '00000000-0000-0000-0000-000000000000' };
      case 'query-migrationthreads':
      case 'query-cpus-fast':
        return [];
      case 'qom-get':
        return 'made-9.0-machine';
      case 'human-monitor-command':
        return ' Block Name PSize Offset Used Total\n made.ram 4 KiB 0x0 0x40000 0x40000\n';
      case 'stop':
        this.runState = 'paused';
        return {};
      case 'cont':
        this.runState = 'running';
        return {};
      case 'migrate_cancel':
        this.migrationStatus = 'cancelled';
        return {};
      case 'migrate':
        this.migrationStatus = 'active';
        void this.#options.migrate(String(args.uri).replace(/^unix:/, ''), this);
        return {};
      default:
        return {};
    }
  }
}
