/** A guest of this process as the source of a migration: its RAM is mapped, its dirty log drives live passes. */
import { RAM_SECTION_ID } from '../guest/builtin/devices.js';
import type { DirtyTrackingGuest } from '../guest/guest.js';
import type { DirtyLog, OutgoingSource, SourceDevices, SourceSetup } from './source.js';

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
    const { machine, blocks } = this.#guest;
    return {
      machine,
      pageSize: blocks[0]?.pageSize ?? 4096,
      ramSectionId: RAM_SECTION_ID,
      blocks: blocks.map(({ idstr, usedLength, fd, fdOffset }) => ({
        idstr,
        usedLength,
        memory: { fd, offset: fdOffset },
      })),
    };
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
