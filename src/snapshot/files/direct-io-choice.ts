/**
 * `--direct-io auto|on|off` made into the migration parameter `direct-io` for one directory, before the VM is touched.
 */
import { MapramError } from '../../errors.js';
import { type DirectIoProbe, probeDirectIo } from '../../io/file/direct-io-probe.js';
import type { DirectIoMode } from '../../io/file/open-direct.js';
import { whyDirectIsSlow } from './target-speed.js';

export interface DirectIoChoice {
  /** The value for the parameter `direct-io`. */
  directIo: boolean;
  /** Why, in half a sentence; part of the result. */
  reason: string;
  /** Direct I/O was wanted and is not to be had: buffered pages are to leave the page cache. */
  dropBehind?: boolean;
  /** Set when the user should be told, once, that direct I/O was wanted and is not used. */
  warning?: string;
}

/** Pages are written in multiples of 4 KiB from 4 KiB addresses: a coarser device cannot be served. */
const GRANULARITY = 4096;

/**
 * @param target the file to be written or read; it need not exist
 * @param probe replaceable in tests
 * @throws MapramError `NO_DIRECT_IO` with mode `on` where the file system refuses
 */
export function chooseDirectIo(
  target: string,
  mode: DirectIoMode,
  probe: (target: string) => DirectIoProbe = probeDirectIo,
): DirectIoChoice {
  if (mode === 'off') return { directIo: false, reason: 'switched off' };
  const problem = refusal(target, probe);
  if (problem === undefined) return { directIo: true, reason: 'the file system supports O_DIRECT' };
  if (mode === 'on') {
    throw new MapramError(
      'NO_DIRECT_IO',
      `opening ${target} for direct I/O: ${problem}; use --direct-io auto or off, or a directory on a disk file system`,
      { path: target },
    );
  }
  return {
    directIo: false,
    dropBehind: true,
    reason: problem,
    warning: `${target}: ${problem}, so pages go through the page cache (--direct-io off says so without this warning)`,
  };
}

/**
 * Takes `auto`'s choice of direct I/O back where it works and is far slower than the page cache.
 *
 * @param fd the file to be written, empty and open for buffered writing; it is empty again afterwards
 * @param whySlow replaceable in tests
 */
export async function unlessSlow(
  target: string,
  choice: DirectIoChoice,
  fd: number,
  whySlow: (fd: number) => Promise<string | undefined> = whyDirectIsSlow,
): Promise<DirectIoChoice> {
  const reason = choice.directIo ? await whySlow(fd) : undefined;
  if (reason === undefined) return choice;
  return {
    directIo: false,
    dropBehind: true,
    reason,
    warning: `${target}: ${reason}, so pages go through the page cache (--direct-io on insists, off says so without this warning)`,
  };
}

function refusal(target: string, probe: (target: string) => DirectIoProbe): string | undefined {
  const found = probe(target);
  if (!found.supported) return found.reason ?? 'the file system does not support O_DIRECT';
  const coarsest = Math.max(found.memoryAlignment, found.offsetAlignment);
  if (coarsest > GRANULARITY)
    return `the device wants I/O in units of ${coarsest} bytes, guest pages have ${GRANULARITY}`;
  return undefined;
}
