/** What differs between two saved VMs: what `mapram diff` does. */

import { type Comparison, compareSavedVms } from '../../analysis/compare.js';
import { equalChunksOf } from '../../analysis/equal-chunks.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { assertOptions, flag, optionsOf, signal } from '../../checked-options.js';
import type { OperationOptions } from '../../progress.js';
import { runOperation } from '../files/operation.js';
import { offset, onProgress } from '../files/option-kinds.js';
import { openOperand, savedOption } from '../store/open-saved.js';

export interface DiffOptions extends OperationOptions {
  /** Saved VMs of any form: paths, `PLACE/NAME[@ID]` in a store, or open ones. */
  before: string | SavedVm;
  after: string | SavedVm;
  /** Where their streams start; found by itself at the start and behind libvirt's header. */
  offsetBefore?: number | undefined;
  offsetAfter?: number | undefined;
  /** Read all pages, also those that the checksums in both files call equal. */
  readAll?: boolean | undefined;
}

const DiffOptionsSchema = optionsOf<DiffOptions>({
  before: savedOption,
  after: savedOption,
  offsetBefore: offset,
  offsetAfter: offset,
  readAll: flag,
  signal,
  onProgress,
});

/**
 * Compares memory page by page, as the guest would see it, and device state field by field.
 *
 * @throws MapramError `FORMAT` where pages cannot be read, `USAGE`, `IO`, `CANCELLED`
 */
export async function diff(options: DiffOptions): Promise<Comparison> {
  assertOptions('diff', DiffOptionsSchema, options);
  const [first, second] = [options.before, options.after].map((one) =>
    typeof one === 'string' ? one : one.path,
  );
  return runOperation(`comparing ${first} with ${second}`, String(first), options, async (guarded) => {
    const { offsetBefore, offsetAfter, readAll = false, ...common } = guarded;
    guarded.signal?.throwIfAborted();
    await using before = await openOperand(options.before, { ...common, offset: offsetBefore });
    await using after = await openOperand(options.after, { ...common, offset: offsetAfter });
    const equalChunks = readAll ? undefined : await equalChunksOf(before.saved, after.saved);
    return await compareSavedVms(before.saved, after.saved, { ...common, equalChunks });
  });
}
