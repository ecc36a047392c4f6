import { isMigrationRunning } from '../../options/migration-status.js';
import { visible } from '../../visible.js';
import type { ClientChannel } from '../client-channel.js';
import type { MonitorEvent, MonitorServices } from '../monitor-services.js';
import type { HumanMonitor } from './human-monitor.js';
import { LineEditor } from './line-editor.js';

const PROMPT = '(qemu) ';
/** As in QEMU. */
const MAX_LINE = 4095;
/** Bytes that wait for a human before the connection is dropped. */
const MAX_UNSENT_BYTES = 1 << 20;
/** How often a command that waits looks whether its migration has ended, in ms. */
const POLL_MS = 50;

/** Answers quote names from files and clients. Line breaks are left as they are. */
function asShown(text: string): string {
  return text.split('\r\n').map(visible).join('\r\n');
}

/** One human at the monitor: on a terminal with prompt, echo and editing, or on a pipe with output alone. */
export class HumanSession {
  readonly #monitor: MonitorServices;
  readonly #human: HumanMonitor;
  readonly #channel: ClientChannel;
  readonly #terminal: boolean;
  #closed = false;
  #unfinished = '';

  constructor(
    monitor: MonitorServices,
    human: HumanMonitor,
    channel: ClientChannel,
    { terminal }: { terminal: boolean },
  ) {
    this.#monitor = monitor;
    this.#human = human;
    this.#channel = channel;
    this.#terminal = terminal;
  }

  /** Serves until the human, or the monitor, ends the connection. */
  async run(): Promise<void> {
    const { qemu } = this.#monitor.backend.version;
    const version = `${qemu.major}.${qemu.minor}.${qemu.micro}`;
    if (this.#terminal) {
      await this.#print(`QEMU ${version} monitor - type 'help' for more information\r\n${PROMPT}`);
    }
    const editor = new LineEditor({
      prompt: PROMPT,
      maxLength: MAX_LINE,
      complete: (line) => this.#human.completions(line),
    });
    try {
      for await (const { bytes } of this.#channel.input) {
        const text = bytes.toString('latin1');
        await (this.#terminal ? this.#edit(editor, text) : this.#read(text));
        if (this.#closed) return;
      }
      if (this.#unfinished !== '') await this.#execute(this.#unfinished);
    } finally {
      this.#closed = true;
      this.#channel.end();
    }
  }

  /** Humans see no events. */
  event(_event: MonitorEvent): void {}

  async close(): Promise<void> {
    this.#closed = true;
    this.#channel.end();
  }

  async #edit(editor: LineEditor, text: string): Promise<void> {
    for (const output of editor.type(text)) {
      if ('show' in output) await this.#print(output.show);
      else {
        await this.#execute(output.line);
        if (this.#closed) return;
        await this.#print(PROMPT);
      }
    }
  }

  async #read(text: string): Promise<void> {
    const lines = (this.#unfinished + text).split(/\r?\n/);
    // The beginning of a line that is longer than any command is kept: enough to say that it is unknown.
    this.#unfinished = (lines.pop() ?? '').slice(0, MAX_LINE);
    for (const line of lines) {
      await this.#execute(line.slice(0, MAX_LINE));
      if (this.#closed) return;
    }
  }

  async #execute(bytes: string): Promise<void> {
    const line = Buffer.from(bytes, 'latin1').toString('utf8');
    const output = await this.#human.run(line, { waitForMigration: () => this.#waitForMigration() });
    const text = output ?? (await this.#elsewhere(line));
    const shown = this.#terminal ? text : text.replaceAll('\r\n', '\n');
    if (shown !== '') await this.#print(Buffer.from(asShown(shown)).toString('latin1'));
  }

  async #elsewhere(line: string): Promise<string> {
    try {
      return await this.#monitor.runHumanCommand(line);
    } catch (error) {
      return `Error: ${(error as Error).message}\r\n`;
    }
  }

  async #waitForMigration(): Promise<string> {
    while (!this.#closed && isMigrationRunning(await this.#monitor.backend.migrationStatus())) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    const { status, 'error-desc': reason } = await this.#monitor.backend.queryMigrate();
    return status === 'failed' && reason !== undefined ? `Error: ${reason}\n` : '';
  }

  /** @param text one character a byte */
  async #print(text: string): Promise<void> {
    if (this.#channel.unsentBytes > MAX_UNSENT_BYTES) {
      this.#closed = true;
      this.#channel.destroy();
      return;
    }
    await this.#channel.write(Buffer.from(text, 'latin1'));
  }
}
