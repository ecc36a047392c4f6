/**
 * The contents of a RAM block of a QEMU on this host, read past QEMU: memory that is shared out of its file, since reading a hole of
 * that through the process would allocate it; all other memory out of the process.
 */
import { constants } from 'node:fs';
import { MapramError } from '../../errors.js';
import { dataExtents, type Extent } from '../../io/file/data-extents.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { readFully } from '../../io/file/positional-io.js';
import { pageMapUnit } from '../../io/process/page-map.js';
import { openProcessMapping, type ProcessMapping } from '../../io/process/process-maps.js';
import type { ProcessMemory } from '../../io/process/process-memory.js';
import { writtenPages } from './copied-memory.js';
import type { QemuRamBlock } from './ram-block-table.js';
import type { SharedRamBlock } from './shared-ram.js';

/** Fills `into` with a block's memory from byte `start` of the block on. */
export type ReadMemory = (start: number, into: Buffer) => void;

export class BlockMemory implements Disposable {
  private constructor(
    private readonly process: ProcessMemory,
    private readonly address: bigint,
    private readonly length: number,
    /** What is mapped there, if that is a file, and where in the file the block begins. */
    private readonly file: { fd: number; offset: number; shared: boolean } | undefined,
  ) {}

  /** A block that is shared, with the descriptor of its file, which is then this one's to close. */
  static ofFile(
    process: ProcessMemory,
    { fd, offset, usedLength }: Pick<SharedRamBlock, 'fd' | 'offset' | 'usedLength'>,
  ): BlockMemory {
    return new BlockMemory(process, 0n, usedLength, { fd, offset, shared: true });
  }

  /**
   * @param maps of the process
   * @throws MapramError `UNSUPPORTED` where QEMU does not tell where the block is (before 8.1), `IO` when its file cannot be opened
   */
  static open(
    process: ProcessMemory,
    { idstr, hostAddress, usedLength }: QemuRamBlock,
    maps: readonly ProcessMapping[],
  ): BlockMemory {
    if (hostAddress === undefined)
      throw new MapramError('UNSUPPORTED', `reading RAM block ${idstr}: QEMU does not tell where it is`);
    const mapping = maps.find(
      ({ start, length }) => start <= hostAddress && hostAddress < start + BigInt(length),
    );
    const file = mapping && {
      fd: openProcessMapping(process.pid, mapping, constants.O_RDONLY),
      offset: mapping.offset + Number(hostAddress - mapping.start),
      shared: mapping.shared,
    };
    return new BlockMemory(process, hostAddress, usedLength, file);
  }

  /** @throws MapramError `IO` where nothing is mapped any more */
  readonly read: ReadMemory = (start, into) => {
    const { file } = this;
    if (file?.shared) into.fill(0, readFully(file.fd, into, file.offset + start));
    else this.process.read(this.address + BigInt(start), into);
  };

  /** Ranges of bytes of the block outside which it is zero, in no order; they may overlap. */
  *held(): Generator<Extent> {
    const { file, length } = this;
    if (!file?.shared) yield* this.#written();
    if (file === undefined) return;
    for (const { start, end } of dataExtents(file.fd, file.offset, file.offset + length))
      yield { start: start - file.offset, end: end - file.offset };
  }

  *#written(): Generator<Extent> {
    const { address: start, length } = this;
    const unit = pageMapUnit();
    for (const { run } of writtenPages(this.process.pid, [{ start, length }]))
      yield { start: run.first * unit, end: Math.min(length, (run.first + run.count) * unit) };
  }

  [Symbol.dispose](): void {
    if (this.file) releaseFiles([this.file.fd]);
  }
}
