/** What the guests of mapram have in common: RAM in files that can be mapped, and QEMU's run states. */

/** A migratable RAM block whose memory is a file in this process. */
export interface GuestRamBlock {
  /** QEMU's name of the block: `pc.ram`, `builtin.ram`, … */
  readonly idstr: string;
  /** Bytes, a multiple of `pageSize`. */
  readonly usedLength: number;
  /** Target page size in bytes. */
  readonly pageSize: number;
  /** Guest-physical address of the first byte. */
  readonly guestAddress: number;
  /** Descriptor of the file that holds the memory. The guest owns it. */
  readonly fd: number;
  /** Where in that file the block begins. */
  readonly fdOffset: number;
}

/** The members of QEMU's `RunState` that occur here, in QEMU's spelling. */
export const RUN_STATES = [
  'prelaunch',
  'inmigrate',
  'running',
  'paused',
  'finish-migrate',
  'postmigrate',
  'save-vm',
  'restore-vm',
  'guest-panicked',
  'internal-error',
] as const;

export type RunState = (typeof RUN_STATES)[number];

/** Device state as it stands in a migration stream. */
export interface DeviceState {
  /** FULL sections with their footers, back to back. */
  readonly sections: Uint8Array;
  /** The JSON text that describes them. */
  readonly vmdescription: string;
}

/** A guest that logs which pages it writes, so that its memory can be copied while it runs. */
export interface DirtyTrackingGuest extends AsyncDisposable {
  /** Machine name in the stream's configuration. */
  readonly machine: string;
  readonly blocks: readonly GuestRamBlock[];
  readonly runState: RunState;
  /** Stops the virtual CPU. When the promise resolves memory no longer changes and the dirty log is complete. */
  stop(state?: 'paused' | 'finish-migrate' | 'save-vm'): Promise<void>;
  /** Lets the virtual CPU run. */
  cont(): Promise<void>;
  /** Begins logging; every page counts as clean from here on. */
  startDirtyLog(): void;
  /**
   * Fetches and clears the log of one block, as KVM's dirty log does: a page written afterwards shows up next time.
   *
   * @param block index in `blocks`
   * @param into a bit a page, least significant first; dirty pages are OR'ed in
   * @returns the number of pages fetched
   */
  syncDirty(block: number, into: Uint8Array): number;
  stopDirtyLog(): void;
  /**
   * The device state of the stopped guest.
   *
   * @param runState which whoever loads it is to take up; `paused` by default
   */
  saveDevices(runState?: 'running' | 'paused'): DeviceState;
  /**
   * Takes over device state; memory must be in place. Only in `inmigrate`; afterwards `paused`.
   *
   * @returns the run state that was saved, where that is known
   */
  loadDevices(sections: Uint8Array): string | undefined;
}
