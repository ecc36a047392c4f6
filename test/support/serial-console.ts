/** What a guest of test/support/guests says on its serial port, and the one command it takes there. */
import { connect, type Socket } from 'node:net';
import { Waiters } from './deadline.js';

export class SerialConsole {
  /** The last count seen, -1 before the first. */
  counter = -1;
  /** Of the guest's data as it was made; a VM that was loaded from a file never says it. */
  bootChecksum: string | undefined;
  /** Lines in which the guest reports memory that is not as it left it. */
  readonly torn: string[] = [];
  readonly #recent: string[] = [];
  readonly #checksums: string[] = [];
  readonly #waiters = new Waiters();
  readonly #socket: Socket;
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    let text = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      const lines = (text + chunk).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) this.#receive(line.trim());
      this.#waiters.notify();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#waiters.notify();
    });
  }

  /** `path`: the Unix socket of the serial port's chardev. */
  static async open(path: string): Promise<SerialConsole> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new SerialConsole(socket);
  }

  #receive(line: string): void {
    if (this.#recent.push(line) > 20) this.#recent.shift();
    const [word, first, second] = line.split(' ');
    if (word === 'counter') this.counter = Number(first);
    else if (word === 'checksum' && first === 'BOOT') this.bootChecksum = second;
    else if (word === 'checksum' && second !== undefined) this.#checksums.push(second);
    else if (word === 'torn') this.torn.push(line);
  }

  async #until<T>(look: () => T | undefined, what: string): Promise<T> {
    const seen = (): string => `the serial port's last lines: ${JSON.stringify(this.#recent)}`;
    return await this.#waiters.until(
      () => {
        const value = look();
        if (value === undefined && this.#closed) throw new Error(`The VM ended before ${what}; ${seen()}`);
        return value;
      },
      () => `${what}; ${seen()}`,
    );
  }

  /** Until the guest has made its data and begins to count. */
  async waitForBoot(): Promise<void> {
    await this.#until(() => this.bootChecksum, 'the boot checksum');
    await this.waitForCounterAbove(0);
  }

  /** Waits for a line that another guest than those here says, among the last. */
  async waitForLine(line: string): Promise<void> {
    await this.#until(() => this.#recent.includes(line) || undefined, `the line ${line}`);
  }

  /** Gives the count reached. Without `count`: one more than the last seen. */
  async waitForCounterAbove(count = this.counter): Promise<number> {
    return await this.#until(
      () => (this.counter > count ? this.counter : undefined),
      `a counter above ${count}`,
    );
  }

  /** Lets the guest compute the checksum of its data again. */
  async checksum(): Promise<string> {
    const known = this.#checksums.length;
    this.#socket.write('s\n');
    return await this.#until(() => this.#checksums[known], 'a checksum');
  }

  close(): void {
    this.#socket.destroy();
  }
}
