/**
 * The guard of a save: a process of its own that outlives this one, and puts the VM right should this one be killed.
 *
 * ```
 * save                          guard
 * writes and locks the record
 * starts the guard ───────────▶ waits for the end of its standard input
 * …
 * VM in its final state:
 * removes the record, ends ───▶ no record: nothing to do
 *
 * killed (lock and pipe end) ─▶ takes the record, rescues the VM, removes part file and record
 * ```
 */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MapramError } from '../../errors.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { parseSocketAddress } from '../../qmp/socket-address.js';
import { STOPPED_FOR_SAVE } from './rescue-vm.js';
import { HeldRecord, takeAbandonedRecords } from './save-record.js';

export interface GuardOptions {
  file: string;
  partPath: string;
  /** State of the VM, to which a save that dies must bring it back. */
  runState: string;
}

export class SaveGuard implements AsyncDisposable {
  /** Set when the save has ended well: the VM is where it belongs. */
  settled = false;

  private constructor(
    private readonly vm: QemuVm,
    private readonly held: HeldRecord,
    private readonly process: ChildProcess,
  ) {}

  /** Does not wait for the guard to be up: its standard input ends for it even if this process is killed before. */
  static async start(vm: QemuVm, options: GuardOptions): Promise<SaveGuard> {
    const { capabilities, parameters } = await MigrationSettings.capture(vm);
    const held = HeldRecord.create({
      format: 1,
      address: absoluteAddress(vm.address),
      ...options,
      capabilities,
      parameters,
    });
    const guard = spawn(
      process.execPath,
      [fileURLToPath(new URL('./guard-process.js', import.meta.url)), held.path],
      { detached: true, stdio: ['pipe', 'ignore', 'ignore'], cwd: '/' },
    );
    // Without a guard the record is left for `mapram doctor --rescue`.
    guard.on('error', () => {});
    guard.stdin?.on('error', () => {});
    guard.unref();
    (guard.stdin as unknown as { unref?: () => void } | null)?.unref?.();
    return new SaveGuard(vm, held, guard);
  }

  /** Ends the guard. It acts after a failure that left the VM stopped, or without a connection, so that nobody knows. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.settled || (await this.#isAsBefore())) this.held.remove();
    else this.held[Symbol.dispose]();
    this.process.stdin?.destroy();
  }

  async #isAsBefore(): Promise<boolean> {
    if (this.vm.client.closed) return false;
    if (this.held.record.runState !== 'running') return true;
    return await this.vm.runState().then(
      (state) => !STOPPED_FOR_SAVE.has(state),
      () => false,
    );
  }
}

/**
 * Refuses a VM that a save which died has left stopped: its state is not what its owner takes it for.
 *
 * @throws MapramError `VM`
 */
export async function assertNotAbandoned(vm: QemuVm): Promise<void> {
  const address = absoluteAddress(vm.address);
  for (const held of takeAbandonedRecords()) {
    using _ = held;
    const { record } = held;
    if (record.address !== address || record.runState !== 'running') continue;
    if (!STOPPED_FOR_SAVE.has(await vm.runState())) continue;
    throw new MapramError(
      'VM',
      `saving the VM at ${vm.address}: an earlier save to ${record.file} died and left it stopped; continue it with "mapram doctor --rescue"`,
      { path: vm.address },
    );
  }
}

/** The guard has another working directory. */
export function absoluteAddress(address: string): string {
  const parsed = parseSocketAddress(address);
  return 'path' in parsed ? path.resolve(parsed.path) : address;
}
