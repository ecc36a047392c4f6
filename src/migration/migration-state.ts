import type { MigrationStatus } from '../options/migration-status.js';

/**
 * The states of a migration, spelled as in QEMU's `MigrationStatus` and moved through in QEMU's order.
 *
 *     none → setup → active → [pre-switchover →] device → completed          (source)
 *     none → setup → active → completed                                      (destination)
 *     setup, active, pre-switchover, device → failed
 *     setup, active, pre-switchover, device → cancelling → cancelled
 *
 * Since QEMU 10.0 a source always passes `device`; 9.x only with the capability `pause-before-switchover`.
 * mapram does as 10.0 does.
 */
const NEXT: Partial<Record<MigrationStatus, readonly MigrationStatus[]>> = {
  none: ['setup'],
  setup: ['active', 'failed', 'cancelling'],
  active: ['pre-switchover', 'device', 'completed', 'failed', 'cancelling'],
  'pre-switchover': ['device', 'failed', 'cancelling'],
  device: ['completed', 'failed', 'cancelling'],
  cancelling: ['cancelled'],
};

/** The current state, and the only way to change it: a step that QEMU would not take is a defect and throws. */
export class MigrationState {
  #status: MigrationStatus = 'none';
  readonly #onChange: (status: MigrationStatus) => void;

  constructor(onChange: (status: MigrationStatus) => void = () => {}) {
    this.#onChange = onChange;
  }

  get status(): MigrationStatus {
    return this.#status;
  }

  moveTo(next: MigrationStatus): void {
    if (!NEXT[this.#status]?.includes(next)) {
      throw new Error(`a migration cannot go from ${this.#status} to ${next}`);
    }
    this.#status = next;
    this.#onChange(next);
  }
}
