/**
 * The guard of a save: a process of its own that outlives this one, and puts the VM right should this one be killed.
 *
 * ```
 * save                          guard
 * starts the guard ───────────▶ waits for the end of its standard input
 * writes and locks the record
 * creates the part file
 * adds the VM to the record
 * …
 * VM in its final state:
 * removes the record, says so ▶ ends
 *
 * killed (lock and pipe end) ─▶ takes the record, rescues the VM, removes part file and record
 * ```
 */
import path from 'node:path';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { isMigrationRunning } from '../../options/migration-status.js';
import { parseSocketAddress } from '../../qmp/socket-address.js';
import { GuardShell } from './guard-shell.js';
import { isStoppedForSave } from './rescue-vm.js';
import { HeldRecord, takeAbandonedRecords } from './save-record.js';

export class SaveGuard implements AsyncDisposable {
  /** Set when the save has ended well: the VM is where it belongs. */
  settled = false;
  #vm: QemuVm | undefined;

  private constructor(
    private readonly held: HeldRecord,
    private readonly shell: GuardShell,
  ) {}

  /**
   * Guards the part file that is about to be created. Does not wait for the guard to be up: its standard input ends for it even
   * if this process is killed before.
   */
  static start({ file, partPath }: { file: string; partPath: string }): SaveGuard {
    const record = HeldRecord.newPath();
    const shell = new GuardShell(record);
    try {
      return new SaveGuard(HeldRecord.create({ format: 1, file, partPath }, record), shell);
    } catch (error) {
      shell.dismiss();
      throw error;
    }
  }

  /** Guards a VM, too, that is about to be touched. @param runState to which a save that dies must bring it back */
  async watch(vm: QemuVm, runState: string): Promise<void> {
    // Nobody else could connect to it.
    if (!vm.hasAddress) return;
    const settings = await MigrationSettings.capture(vm);
    const pid = vm.peerPid();
    this.held.addVm({
      address: lastingAddress(vm),
      ...defined({ pid }),
      runState,
      stopped: false,
      ...settings,
    });
    vm.beforeStop = () => this.held.noteStopped(true);
    this.#vm = vm;
  }

  /** To be asked while the VM is still connected: after a failure that left it as it was there is nothing to guard. */
  async look(): Promise<void> {
    this.settled ||= await this.#isAsBefore();
  }

  /** Ends the guard. It acts after a failure that left the VM otherwise than it was, or silent, so that nobody knows. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.settled || this.#vm === undefined) {
      try {
        this.held.remove();
      } catch {
        // A record that nobody holds: "mapram doctor --rescue" finds the VM as it must be, and removes it.
      }
      this.shell.dismiss();
    } else {
      this.held[Symbol.dispose]();
      this.shell.release();
    }
  }

  async #isAsBefore(): Promise<boolean> {
    const vm = this.#vm;
    const { vm: recorded } = this.held.record;
    if (vm === undefined || recorded === undefined) return true;
    if (vm.client.closed || vm.client.silent) return false;
    try {
      const migrates = isMigrationRunning((await vm.migrationInfo()).status);
      return !migrates && !isStoppedForSave(recorded, await vm.runState());
    } catch {
      return false;
    }
  }
}

/**
 * Refuses a VM that a save which died has left stopped: its state is not what its owner takes it for. Where its owner has continued it,
 * its migration settings are put back and the record goes, so that nobody takes a later stop for that one.
 *
 * @throws MapramError `VM`
 */
export async function assertNotAbandoned(vm: QemuVm): Promise<void> {
  const address = lastingAddress(vm);
  for (const held of takeAbandonedRecords()) {
    using _ = held;
    const { file, vm: recorded } = held.record;
    if (recorded?.address !== address) continue;
    if (!isStoppedForSave(recorded, await vm.runState())) {
      const settings = await MigrationSettings.recorded(vm, recorded);
      await settings.restore().catch(() => {});
      held.remove();
      continue;
    }
    throw new MapramError(
      'VM',
      `saving the VM at ${vm.address}: an earlier save to ${file} died and left it stopped; continue it with "mapram doctor --rescue"`,
      { path: vm.address },
    );
  }
}

/** The guard has another working directory, and other environments have another libvirt. */
function lastingAddress(vm: QemuVm): string {
  if (vm.client.address !== undefined) return vm.client.address;
  const parsed = parseSocketAddress(vm.address);
  return 'path' in parsed ? path.resolve(parsed.path) : vm.address;
}
