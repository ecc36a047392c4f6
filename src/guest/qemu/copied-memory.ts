/** The memory of a QEMU that was resumed: its blocks are private mappings of the page areas of a mapped-ram file. */
import { PageOrigin, privateMemory, readPageMap } from '../../io/process/page-map.js';
import { isMappingOf, type MappedFile, readProcessMaps } from '../../io/process/process-maps.js';

/** A part of a file in the memory of a process. */
export interface CopiedRange {
  /** Address in the process. */
  start: bigint;
  /** Offset in the file. */
  offset: number;
  length: number;
}

/** The private, writable mappings that process `pid` has of a file, whatever the file is called by now. */
export function copiedRanges(pid: number, file: MappedFile): CopiedRange[] {
  return readProcessMaps(pid)
    .filter((mapping) => !mapping.shared && mapping.writable && isMappingOf(mapping, file))
    .map(({ start, offset, length }) => ({ start, offset, length }));
}

/** Pages, of the size in which this host maps memory, from the start of a range. */
export interface HostPageRun {
  first: number;
  count: number;
}

/**
 * The pages of ranges that process `pid` has written to: in a private mapping its own copies, which are no longer the file's; in
 * memory without a file all that is not zero. Takes milliseconds where there are none, however large the ranges are.
 *
 * @throws MapramError `IO` when the process is gone or may not be looked into
 */
export function* writtenPages<Range extends Pick<CopiedRange, 'start' | 'length'>>(
  pid: number,
  ranges: readonly Range[],
): Generator<{ range: Range; run: HostPageRun }> {
  const memory = privateMemory(pid);
  for (const range of ranges) {
    const { start, length } = range;
    // One range may be shown as several mappings, or as part of one.
    if (!memory.some((mapping) => mapping.start < start + BigInt(length) && start < mapping.end)) continue;
    const origins = readPageMap(pid, start, length);
    for (let first = origins.indexOf(PageOrigin.PRIVATE); first >= 0; ) {
      let next = first + 1;
      while (origins[next] === PageOrigin.PRIVATE) next++;
      yield { range, run: { first, count: next - first } };
      first = origins.indexOf(PageOrigin.PRIVATE, next);
    }
  }
}
