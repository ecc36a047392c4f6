/** A QMP client just large enough for tests, so that they do not lean on the one they test. */
import { connect, type Socket } from 'node:net';
import { Waiters } from './deadline.js';

export interface QmpEvent {
  event: string;
  timestamp: { seconds: number; microseconds: number };
  data?: Record<string, unknown>;
}

interface QmpReply {
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
}

export class QmpSession {
  events: QmpEvent[] = [];
  readonly #replies = new Map<number, QmpReply>();
  readonly #waiters = new Waiters();
  readonly #socket: Socket;
  #greeted = false;
  #closed = false;
  #nextId = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        this.#receive(JSON.parse(text.slice(0, end)));
        text = text.slice(end + 1);
      }
      this.#waiters.notify();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#waiters.notify();
    });
  }

  /** Connects to the monitor's Unix socket and leaves its negotiation mode. */
  static async open(path: string): Promise<QmpSession> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    const session = new QmpSession(socket);
    await session.#until(() => session.#greeted || undefined, 'the greeting');
    await session.execute('qmp_capabilities');
    return session;
  }

  #receive(message: QmpReply & Partial<QmpEvent> & { QMP?: unknown }): void {
    if (message.QMP !== undefined) this.#greeted = true;
    else if (message.event !== undefined) this.events.push(message as QmpEvent);
    else if (message.id !== undefined) this.#replies.set(message.id, message);
  }

  async #until<T>(look: () => T | undefined, what: string): Promise<T> {
    return await this.#waiters.until(
      () => {
        const value = look();
        if (value === undefined && this.#closed) throw new Error(`QMP closed before ${what} came`);
        return value;
      },
      () => `${what} on QMP; last events: ${JSON.stringify(this.events.slice(-5))}`,
    );
  }

  /** Gives the command's `return`; an error reply is thrown with QEMU's own sentence as message. */
  async execute<T = unknown>(command: string, args?: object): Promise<T> {
    const id = this.#nextId++;
    this.#socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    const reply = await this.#until(() => this.#replies.get(id), `the reply to ${command}`);
    this.#replies.delete(id);
    if (reply.error) throw new Error(reply.error.desc);
    return reply.return as T;
  }

  /** The human monitor's answer to one line. */
  async hmp(line: string): Promise<string> {
    return await this.execute<string>('human-monitor-command', { 'command-line': line });
  }

  /** Waits from here on see only what comes next. */
  forgetEvents(): void {
    this.events = [];
  }

  /** The first event that fits, also among those that came before. */
  async waitForEvent(
    name: string,
    fits: (data: Record<string, unknown>) => boolean = () => true,
  ): Promise<QmpEvent> {
    return await this.#until(
      () => this.events.find((event) => event.event === name && fits(event.data ?? {})),
      `the event ${name}`,
    );
  }

  close(): void {
    this.#socket.destroy();
  }
}
