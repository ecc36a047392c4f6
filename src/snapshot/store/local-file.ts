import { isStoreAddress } from '../../store/open-place.js';
import type { LocalCopyOptions } from './local-copy.js';

/** The file behind what is to be loaded or mapped. Where it is a file already, nothing of stores is loaded: VMs wait for this. */
export async function localFile(from: string, options: LocalCopyOptions): Promise<string> {
  if (!isStoreAddress(from)) return from;
  const { localCopy } = await import('./local-copy.js');
  return await localCopy(from, options);
}
