import { MapramError } from '../errors.js';
import type { Bytes, Count } from '../units.js';
import { compareDevices, type DeviceComparison } from './compare-devices.js';
import { type BlockComparison, type CompareOptions, compareBlocks } from './compare-memory.js';
import type { SavedVm } from './saved-vm.js';

/** What differs between two saved VMs. Forms and containers are no difference: the same VM may be saved in any. */
export interface Comparison {
  readonly equal: boolean;
  readonly machine: { readonly before: string; readonly after: string };
  readonly complete: { readonly before: boolean; readonly after: boolean };
  readonly differentPages: Count;
  readonly differentBytes: Bytes;
  /** Every block of either file. */
  readonly blocks: readonly BlockComparison[];
  /** Devices with a difference only. */
  readonly devices: readonly DeviceComparison[];
  /** Bytes of memory that were read, of both files together. */
  readonly readBytes: Bytes;
  /** Bytes of memory that either file holds contents of and that were not read, since `equalChunks` calls them equal. */
  readonly unreadBytes: Bytes;
}

/**
 * Compares memory page by page, as the guest would see it, and device state field by field.
 *
 * @throws MapramError `FORMAT` where pages cannot be read, `IO`, `CANCELLED`
 */
export async function compareSavedVms(
  before: SavedVm,
  after: SavedVm,
  options: CompareOptions = {},
): Promise<Comparison> {
  if (before.blocks.length === 0 && after.blocks.length === 0) {
    throw new MapramError(
      'FORMAT',
      `comparing ${before.path} with ${after.path}: neither has a RAM block that can be read`,
      { path: before.path },
    );
  }
  const { blocks, readBytes, unreadBytes } = await compareBlocks(before, after, options);
  const devices = compareDevices(before.devices, after.devices);
  const machine = { before: before.configuration.machine, after: after.configuration.machine };
  const complete = { before: before.complete, after: after.complete };
  return {
    equal:
      machine.before === machine.after &&
      complete.before === complete.after &&
      blocks.every(({ status }) => status === 'equal') &&
      devices.length === 0,
    machine,
    complete,
    differentPages: blocks.reduce((sum, block) => sum + block.differentPages, 0),
    differentBytes: blocks.reduce((sum, block) => sum + block.differentBytes, 0),
    blocks,
    devices,
    readBytes,
    unreadBytes,
  };
}
