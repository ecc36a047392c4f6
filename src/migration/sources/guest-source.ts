/** A guest of this process as the source of a migration. */
import { RAM_SECTION_ID } from '../../guest/builtin/devices.js';
import type { DirtyTrackingGuest, GuestRamBlock } from '../../guest/guest.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { readFully, writeFully } from '../../io/file/positional-io.js';
import { createMemfd } from '../../io/memory/memfd.js';
import type { MemoryFile } from '../../io/memory/memory-map.js';
import type { DirtyLog, OutgoingSource, SourceDevices, SourceSetup } from './migration-source.js';

/** Its RAM is mapped, its dirty log drives live passes. */
export class GuestSource implements OutgoingSource {
  readonly dirtyLog: DirtyLog;
  readonly #guest: DirtyTrackingGuest;
  readonly #wasRunning: boolean;
  /** What the file says: whether the guest ran until it was stopped for the save. */
  #ranUntilStop: boolean;

  /** @param wasRunning whether `resume` lets the guest run, and whoever loads it, too; by default, whether it runs now, and when it is stopped */
  constructor(guest: DirtyTrackingGuest, wasRunning?: boolean) {
    this.#guest = guest;
    this.#wasRunning = wasRunning ?? guest.runState === 'running';
    this.#ranUntilStop = wasRunning ?? false;
    this.dirtyLog = {
      start: () => guest.startDirtyLog(),
      sync: (block, into) => guest.syncDirty(block, into),
      stop: () => guest.stopDirtyLog(),
    };
  }

  get guestRuns(): boolean {
    return this.#guest.runState === 'running';
  }

  async setup(): Promise<SourceSetup> {
    return setupOf(this.#guest, ({ fd, fdOffset }) => ({ fd, offset: fdOffset }));
  }

  async stop(): Promise<number[]> {
    if (this.#guest.runState === 'running') {
      this.#ranUntilStop = true;
      await this.#guest.stop('finish-migrate');
    }
    return this.#guest.blocks.map((_, index) => index);
  }

  async devices(): Promise<SourceDevices> {
    const { sections, vmdescription } = this.#guest.saveDevices(this.#ranUntilStop ? 'running' : 'paused');
    return { sections, vmdescription, switchoverStart: true };
  }

  async resume(): Promise<void> {
    if (this.#wasRunning && this.#guest.runState !== 'running') await this.#guest.cont();
  }

  async cancel(): Promise<void> {
    this.#guest.stopDirtyLog();
    await this.resume();
  }

  async dispose(): Promise<void> {}
}

const COPY_BYTES = 4 << 20;

/** As the guest was at one moment: its RAM is copied while it stands still, and saved from the copy while it goes on. */
export class BackgroundSource implements OutgoingSource {
  readonly background = true;
  readonly #guest: DirtyTrackingGuest;
  /** By the index of the block. */
  readonly #copies: number[] = [];
  #devices: SourceDevices | undefined;
  #downtimeMs = 0;

  constructor(guest: DirtyTrackingGuest) {
    this.#guest = guest;
  }

  /** @throws MapramError `IO` where there is no memory for a copy */
  async setup(): Promise<SourceSetup> {
    for (const { idstr, usedLength } of this.#guest.blocks) {
      this.#copies.push(createMemfd(`mapram copy of ${idstr}`, usedLength));
    }
    return setupOf(this.#guest, (_, index) => ({ fd: this.#copies[index] as number, offset: 0 }));
  }

  async stop(): Promise<number[]> {
    const guest = this.#guest;
    const runs = guest.runState === 'running';
    const stoppedAt = performance.now();
    if (runs) await guest.stop('paused');
    const { sections, vmdescription } = guest.saveDevices(runs ? 'running' : 'paused');
    this.#devices = { sections, vmdescription, switchoverStart: true };
    for (const [index, block] of guest.blocks.entries()) copyMemory(block, this.#copies[index] as number);
    if (runs) await guest.cont();
    this.#downtimeMs = performance.now() - stoppedAt;
    return guest.blocks.map((_, index) => index);
  }

  async devices(): Promise<SourceDevices> {
    return this.#devices as SourceDevices;
  }

  downtimeMs(): number {
    return this.#downtimeMs;
  }

  async resume(): Promise<void> {}

  async cancel(): Promise<void> {}

  async dispose(): Promise<void> {
    releaseFiles(this.#copies.splice(0));
  }
}

function setupOf(
  { machine, blocks }: DirtyTrackingGuest,
  memoryOf: (block: GuestRamBlock, index: number) => MemoryFile,
): SourceSetup {
  return {
    configuration: { machine, capabilities: [] },
    earlySections: new Uint8Array(0),
    pageSize: blocks[0]?.pageSize ?? 4096,
    ramSectionId: RAM_SECTION_ID,
    blocks: blocks.map((block, index) => ({
      idstr: block.idstr,
      usedLength: block.usedLength,
      memory: memoryOf(block, index),
    })),
  };
}

/** Holes stay holes. */
function copyMemory({ fd, fdOffset, usedLength }: GuestRamBlock, target: number): void {
  const buffer = Buffer.alloc(Math.min(COPY_BYTES, usedLength));
  for (const { start, end } of dataExtents(fd, fdOffset, fdOffset + usedLength)) {
    for (let position = start; position < end; position += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, end - position));
      readFully(fd, piece, position);
      writeFully(target, piece, position - fdOffset);
    }
  }
}
