/** The guest that saves are measured with: most of its memory random, the rest zero, in stripes of 1 MiB. */
import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QemuName } from '../test/support/environment.js';
import { startVm, type TestVm } from '../test/support/qemu.js';

const STRIPE = 2 ** 20;
/** Left to the firmware at both ends of memory. */
const MARGIN = 16 * STRIPE;
const FIRMWARE_SETTLES_MS = 3000;

/**
 * Several VMs over the same memory, a file in shared memory, so that each contender has its own QEMU and all save the
 * same bytes. Their processors have nothing to run but the firmware's last, idle loop.
 */
export class StripedGuest implements AsyncDisposable {
  private constructor(
    private readonly memoryFolder: string,
    readonly vms: readonly TestVm[],
    /** Bytes that are not zero, but for what little the firmware holds. */
    readonly randomBytes: number,
  ) {}

  /** One VM for each of `qemus`. */
  static async start(memoryMiB: number, qemus: readonly QemuName[]): Promise<StripedGuest> {
    const memoryFolder = mkdtempSync('/dev/shm/mapram-bench-');
    const vms: TestVm[] = [];
    try {
      for (const qemu of qemus) {
        const vm = await startVm({ qemu, memory: 'shared-file', memoryFolder, memoryMiB, guest: 'none' });
        vms.push(vm);
        await sleep(FIRMWARE_SETTLES_MS);
        await vm.stop();
      }
      const file = vms[0]?.memoryFiles[0];
      if (file === undefined) throw new Error('the VM has no memory file');
      const randomBytes = fillWithStripes(file, memoryMiB * STRIPE);
      return new StripedGuest(memoryFolder, vms, randomBytes);
    } catch (error) {
      for (const vm of vms) await vm[Symbol.asyncDispose]();
      rmSync(memoryFolder, { recursive: true, force: true });
      throw error;
    }
  }

  /** QEMU saves a VM again only after it has run. */
  static async readyForAnotherSave(vm: TestVm): Promise<void> {
    await vm.cont();
    await vm.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of this.vms) await vm[Symbol.asyncDispose]();
    rmSync(this.memoryFolder, { recursive: true, force: true });
  }
}

/** Three random stripes, then one of zeros that are really written, so that no round finds holes that another filled. */
function fillWithStripes(file: string, size: number): number {
  const random = Buffer.alloc(STRIPE);
  const zeros = Buffer.alloc(STRIPE);
  let randomBytes = 0;
  const fd = openSync(file, 'r+');
  try {
    for (let position = MARGIN; position < size - MARGIN; position += STRIPE) {
      const isZero = (position / STRIPE) % 4 === 3;
      writeSync(fd, isZero ? zeros : randomFillSync(random), 0, STRIPE, position);
      if (!isZero) randomBytes += STRIPE;
    }
  } finally {
    closeSync(fd);
  }
  return randomBytes;
}
