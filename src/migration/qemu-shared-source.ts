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

import { MapramError } from '../errors.js';
import { MigrationSettings } from '../guest/qemu/migration-settings.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import { isIgnoredWhenShared, openSharedRam, type SharedRamBlock } from '../guest/qemu/shared-ram.js';
import { DescriptorListener } from '../io/descriptor-listener.js';
import { closeFile } from '../io/open-file.js';
import { peerCredentials } from '../io/unix-socket.js';
import { splitTail } from '../stream/device-sections.js';
import type { OutgoingSource, PagePlace, PlacedPages, SourceDevices, SourceSetup } from './source.js';
import { StreamReceiver, type StreamStart } from './stream-receiver.js';

const CAPABILITIES = ['x-ignore-shared', 'pause-before-switchover', 'events'];

/**
 * No limit on bandwidth, since the socket does not leave the host; no waiting for a small remainder, since what QEMU
 * itself sends is small; no TLS on a private socket.
 */
const PARAMETERS = { 'max-bandwidth': 0, 'downtime-limit': 2_000_000, 'tls-creds': '' };

/** QEMU connects at once; if it cannot (a sandbox, another host), waiting longer does not help. */
const CONNECT_TIMEOUT_MS = 10_000;

export class QemuSharedSource implements OutgoingSource {
  readonly #vm: QemuVm;
  #wasRunning = false;
  #settings: MigrationSettings | undefined;
  #listener: DescriptorListener | undefined;
  #connection: number | undefined;
  #receiver: StreamReceiver | undefined;
  #start: StreamStart | undefined;
  #shared: SharedRamBlock[] = [];
  /** Indexes of the blocks that the engine copies. */
  #copied: number[] = [];
  #migrating = false;

  constructor(vm: QemuVm) {
    this.#vm = vm;
  }

  async setup(signal: AbortSignal): Promise<SourceSetup> {
    const vm = this.#vm;
    this.#wasRunning = (await vm.assertCanMigrate()) === 'running';
    this.#settings = await MigrationSettings.apply(vm, CAPABILITIES, PARAMETERS);
    this.#listener = await DescriptorListener.open();
    await vm.client.execute('migrate', { uri: `unix:${this.#listener.path}` });
    this.#migrating = true;
    const connection = await this.#listener.accept(
      AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]),
    );
    this.#connection = connection;
    const receiver = new StreamReceiver(connection, `the stream of the VM at ${vm.address}`);
    this.#receiver = receiver;
    const start = await this.#orQemuReason(receiver.start());
    this.#start = start;
    await this.#openMemory(start, peerCredentials(connection).pid);
    if (start.early) {
      throw new MapramError(
        'UNSUPPORTED',
        `saving the VM at ${vm.address}: it has a device that is saved before RAM (virtio-mem); use --method native`,
        { path: vm.address },
      );
    }
    const { machine, targetPageBits, uuid } = start.configuration;
    return {
      machine,
      pageSize: start.pageSize,
      ramSectionId: start.ramSectionId,
      blocks: start.blocks.map(({ idstr, usedLength }) => {
        const memory = this.#shared.find((block) => block.idstr === idstr);
        return memory
          ? { idstr, usedLength, memory: { fd: memory.fd, offset: memory.offset } }
          : { idstr, usedLength };
      }),
      ...(targetPageBits === undefined ? {} : { targetPageBits }),
      ...(uuid === undefined ? {} : { uuid }),
    };
  }

  place(where: PagePlace): void {
    this.#receiver?.place(where);
  }

  async stop(signal: AbortSignal): Promise<number[]> {
    await this.#vm.waitForMigration(['pre-switchover'], { signal });
    return this.#copied;
  }

  async devices(signal: AbortSignal): Promise<SourceDevices> {
    const vm = this.#vm;
    const receiver = this.#receiver as StreamReceiver;
    await vm.client.execute('migrate-continue', { state: 'pre-switchover' });
    const { tail, switchoverStart } = await this.#orQemuReason(receiver.tail());
    await vm.waitForMigration(['completed'], { signal });
    this.#migrating = false;
    this.#checkWhatCame(receiver);
    const { complete, sectionBytes, descriptionText, problems } = splitTail(tail);
    if (!complete) {
      throw new MapramError(
        'MIGRATION',
        `saving the VM at ${vm.address}: its device state is incomplete: ${problems.join(', ')}`,
        {
          path: vm.address,
        },
      );
    }
    return {
      sections: sectionBytes,
      switchoverStart,
      ...(descriptionText === undefined ? {} : { vmdescription: descriptionText }),
    };
  }

  placed(): PlacedPages {
    return this.#receiver?.counters() ?? { normalPages: 0, duplicatePages: 0, bytes: 0, channels: [] };
  }

  async resume(): Promise<void> {
    if (this.#wasRunning) await this.#vm.cont();
  }

  async cancel(): Promise<void> {
    try {
      if (this.#migrating) await this.#vm.cancelMigration();
      this.#migrating = false;
      // After a completed migration QEMU leaves the guest stopped; after a cancelled one it goes on by itself.
      if (this.#wasRunning && (await this.#vm.runState()) !== 'running') await this.#vm.cont();
    } catch {
      // QEMU is gone, and its guest with it: the error that led here tells.
    }
  }

  async dispose(): Promise<void> {
    await this.#receiver?.dispose();
    if (this.#connection !== undefined) closeFile(this.#connection);
    this.#connection = undefined;
    await this.#listener?.close();
    for (const { fd } of this.#shared) closeFile(fd);
    this.#shared = [];
    try {
      await this.#settings?.restore();
    } catch {
      // Likewise.
    }
  }

  async #openMemory(start: StreamStart, pid: number): Promise<void> {
    const vm = this.#vm;
    const ignored = new Set<string>();
    for (const { idstr } of start.blocks) if (await isIgnoredWhenShared(vm, idstr)) ignored.add(idstr);
    const blocks = (await vm.ramBlocks()).filter(({ idstr }) => ignored.has(idstr));
    this.#shared = await openSharedRam(vm, blocks, pid);
    for (const [index, { idstr, usedLength }] of start.blocks.entries()) {
      if (!ignored.has(idstr)) continue;
      const listed = blocks.find((block) => block.idstr === idstr);
      if (listed?.usedLength !== usedLength || !this.#shared.some((block) => block.idstr === idstr)) {
        throw new MapramError(
          'VM',
          `saving the VM at ${vm.address}: the memory of RAM block ${idstr} is shared, but its file cannot be opened here; use --method native or stream`,
          { path: vm.address },
        );
      }
      this.#copied.push(index);
    }
  }

  /** Each block must have come one way, and one way only. */
  #checkWhatCame(receiver: StreamReceiver): void {
    for (const [index, { idstr }] of (this.#start?.blocks ?? []).entries()) {
      if (receiver.hasReceived(index) !== this.#copied.includes(index)) continue;
      throw new MapramError(
        'MIGRATION',
        receiver.hasReceived(index)
          ? `saving the VM at ${this.#vm.address}: QEMU sent pages of the shared RAM block ${idstr} although told to leave it out`
          : `saving the VM at ${this.#vm.address}: QEMU sent no page of RAM block ${idstr}, which is not shared`,
        { path: this.#vm.address },
      );
    }
  }

  /** A stream that breaks off is a symptom; QEMU knows the cause. */
  async #orQemuReason<T>(result: Promise<T>): Promise<T> {
    try {
      return await result;
    } catch (error) {
      const reason = await this.#vm.migrationInfo().then(
        (info) => info['error-desc'],
        () => undefined,
      );
      if (reason === undefined) throw error;
      throw new MapramError('MIGRATION', `saving the VM at ${this.#vm.address}: QEMU gave up: ${reason}`, {
        path: this.#vm.address,
        cause: error,
      });
    }
  }
}
