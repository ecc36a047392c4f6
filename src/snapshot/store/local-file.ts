import { isStoreAddress } from '../../store/open-place.js';
import type { LazyCopyOptions, LocalCopyOptions } from './local-copy.js';

/** The file behind what is to be loaded. Where it is a file already, nothing of stores is loaded: VMs wait for this. */
export async function localFile(from: string, options: LocalCopyOptions): Promise<string> {
  if (!isStoreAddress(from)) return from;
  const { localCopy } = await import('./local-copy.js');
  return await localCopy(from, options);
}

/** The file behind what is to be mapped: a snapshot in a store is fetched while VMs run from it. */
export async function mappableFile(from: string, options: LazyCopyOptions): Promise<string> {
  if (!isStoreAddress(from)) return from;
  const { lazyCopy } = await import('./local-copy.js');
  return await lazyCopy(from, options);
}
