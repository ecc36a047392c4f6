/**
 * A QEMU whose RAM is a file that mapram can map too (`memory-backend-file,share=on`): QEMU is asked for the device
 * state only, over a private Unix socket, and mapram's channels copy the RAM.
 *
 * The guest is stopped by QEMU itself, in the state `pre-switchover`: so it records in the device state that the guest
 * was running, `migrate_cancel` makes the guest go on at once, and its disks stay active until the RAM is copied.
 *
 *     migrate unix:…            QEMU sends configuration, RAM blocks, pages of the blocks that are not shared (ROMs, video)
 *     pre-switchover            guest stopped; the channels copy the shared blocks
 *     migrate-continue          QEMU sends the device state
 */

import { MapramError } from '../../errors.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { openSharedRam, type SharedRam } from '../../guest/qemu/shared-ram.js';
import { releaseFiles } from '../../io/file/open-file.js';
import type { StreamStart } from '../../stream/stream-frame.js';
import { QemuStream } from '../qemu-stream.js';
import type { SourceDevices, SourceSetup } from './migration-source.js';
import { QemuStreamedSource } from './qemu-streamed-source.js';

const CAPABILITIES = ['x-ignore-shared', 'pause-before-switchover'];

/** No waiting for a small remainder, since what QEMU itself sends is small. */
const PARAMETERS = { 'downtime-limit': 2_000_000 };

export class QemuSharedSource extends QemuStreamedSource {
  readonly #vm: QemuVm;
  #start: StreamStart | undefined;
  #shared: SharedRam = { opened: [], missing: [] };
  /** Indexes of the blocks that the engine copies. */
  #copied: number[] = [];

  /** @param options.returns see `QemuStreamOptions.returns` */
  constructor(vm: QemuVm, { returns = false }: { returns?: boolean } = {}) {
    super(new QemuStream(vm, { capabilities: CAPABILITIES, parameters: PARAMETERS, channels: 0, returns }));
    this.#vm = vm;
  }

  async setup(signal: AbortSignal): Promise<SourceSetup> {
    const start = await this.#openBoth(signal);
    this.#start = start;
    this.#matchMemory(start);
    return {
      ...start,
      blocks: start.blocks.map((block) => {
        const memory = this.#shared.opened.find(({ idstr }) => idstr === block.idstr);
        return memory ? { ...block, memory: { fd: memory.fd, offset: memory.offset } } : block;
      }),
    };
  }

  /**
   * The memory and the stream. QEMU stops a running guest as soon as it migrates, so whatever can be done before that is; with one
   * that stands still it is done while QEMU makes ready.
   */
  async #openBoth(signal: AbortSignal): Promise<StreamStart> {
    const pid = this.#vm.peerPid();
    const openMemory = async (of: number) => {
      this.#shared = await openSharedRam(this.#vm, of);
    };
    if (pid === undefined) {
      const start = await this.stream.open(signal);
      const found = this.stream.peerPid;
      if (found === undefined) {
        throw new MapramError(
          'UNSUPPORTED',
          `saving the VM at ${this.#vm.address}: the process of its QEMU cannot be told from here, so its memory cannot be opened; use --method native or stream`,
          { path: this.#vm.address },
        );
      }
      await openMemory(found);
      return start;
    }
    if ((await this.#vm.runState()) === 'running') {
      await openMemory(pid);
      return await this.stream.open(signal);
    }
    // Both must have ended before anything is given back.
    const [memory, start] = await Promise.allSettled([openMemory(pid), this.stream.open(signal)]);
    if (memory.status === 'rejected') throw memory.reason;
    if (start.status === 'rejected') throw start.reason;
    return start.value;
  }

  async stop(signal: AbortSignal): Promise<number[]> {
    await this.#vm.waitForMigration(['pre-switchover'], { signal });
    return this.#copied;
  }

  async devices(signal: AbortSignal): Promise<SourceDevices> {
    await this.#vm.client.execute('migrate-continue', { state: 'pre-switchover' });
    const devices = await this.stream.devices(signal);
    this.#checkWhatCame();
    return devices;
  }

  override async dispose(): Promise<void> {
    await super.dispose();
    releaseFiles(this.#shared.opened.splice(0).map(({ fd }) => fd));
  }

  /** Which of the blocks in the stream are the shared ones, which QEMU leaves to the engine. */
  #matchMemory(start: StreamStart): void {
    const vm = this.#vm;
    const { opened, missing } = this.#shared;
    for (const [index, { idstr, usedLength }] of start.blocks.entries()) {
      const shared = opened.find((block) => block.idstr === idstr);
      if (shared?.usedLength === usedLength) this.#copied.push(index);
      else if (shared !== undefined || missing.includes(idstr)) {
        throw new MapramError(
          'VM',
          `saving the VM at ${vm.address}: the memory of RAM block ${idstr} is shared, but its file cannot be opened here; use --method native or stream`,
          { path: vm.address },
        );
      }
    }
  }

  /** Each block must have come one way, and one way only. */
  #checkWhatCame(): void {
    for (const [index, { idstr }] of (this.#start?.blocks ?? []).entries()) {
      if (this.stream.hasReceived(index) !== this.#copied.includes(index)) continue;
      throw new MapramError(
        'MIGRATION',
        this.stream.hasReceived(index)
          ? `saving the VM at ${this.#vm.address}: QEMU sent pages of the shared RAM block ${idstr} although told to leave it out`
          : `saving the VM at ${this.#vm.address}: QEMU sent no page of RAM block ${idstr}, which is not shared`,
        { path: this.#vm.address },
      );
    }
  }
}
