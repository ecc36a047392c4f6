/** A saved Linux guest that starts are measured with: 64 MiB of random data, the rest of its memory mostly empty. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { save } from '../src/snapshot/save/save.js';
import { startBootedVm } from '../test/support/booted-vm.js';

const FILL_MIB = 64;

export class LinuxSnapshot implements Disposable {
  private constructor(
    private readonly folder: string,
    readonly memoryMiB: number,
    private readonly savedCommand: readonly string[],
  ) {}

  /** Boots the guest, or takes it from the cache of the tests, and saves it while it runs. */
  static async make(parent: string, memoryMiB: number): Promise<LinuxSnapshot> {
    const folder = mkdtempSync(path.join(parent, `linux-${memoryMiB}-`));
    try {
      await using vm = await startBootedVm({ memoryMiB, fillMiB: FILL_MIB });
      const command = vm.commandLine.map((word) => word.replaceAll(vm.folder, folder));
      const snapshot = new LinuxSnapshot(folder, memoryMiB, command);
      await save({ vm: vm.qmpPath, file: snapshot.file, method: 'native', onWarning() {} });
      return snapshot;
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  get file(): string {
    return path.join(this.folder, 'saved');
  }

  get size(): string {
    return this.memoryMiB < 1024 ? `${this.memoryMiB} MiB` : `${this.memoryMiB / 1024} GiB`;
  }

  /** Bytes that loading it puts into memory. */
  get dataBytes(): number {
    return statSync(this.file).blocks * 512;
  }

  /** The command line of the guest, ready for any kind of start, its serial port being the chardev `serial`. */
  command(serial: string): string[] {
    return this.savedCommand
      .map((word) => (word.startsWith('socket,id=serial,') ? serial : word))
      .filter((word, index, words) => word !== '-incoming' && words[index - 1] !== '-incoming');
  }

  /** A serial port that tells when the guest says something; it counts ten times a second. */
  async listen(): Promise<GuestOutput> {
    return await GuestOutput.listen(path.join(this.folder, 'output.sock'));
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The host's side of a serial port. */
export class GuestOutput implements AsyncDisposable {
  /** When the guest said its first byte, on the clock of `performance.now`. */
  readonly first: Promise<number>;

  private constructor(
    private readonly server: Server,
    /** For `-chardev`: QEMU connects as it starts, so nothing that the guest says is missed. */
    readonly chardev: string,
  ) {
    this.first = new Promise((resolve) => {
      server.on('connection', (socket) => {
        socket.on('error', () => {}).once('data', () => resolve(performance.now()));
        socket.resume();
      });
    });
  }

  static async listen(socket: string): Promise<GuestOutput> {
    rmSync(socket, { force: true });
    const server = createServer();
    await new Promise<void>((resolve, reject) =>
      server.once('error', reject).listen(socket, () => resolve()),
    );
    return new GuestOutput(server, `socket,id=serial,path=${socket}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.server.close(resolve));
  }
}
