/**
 * A QEMU that was resumed from a mapped-ram file: only what its guest has changed is taken from its memory, the rest
 * from that file, on the file systems that can without copying it.
 *
 *     while the guest runs      the page areas of the base become the page areas of the new file (reflink), or are
 *                               copied, pages left out that the guest has changed already
 *     guest stopped             changed pages, told by the page map of the process, are read from its memory, and so are the
 *                               blocks that are not mapped (ROMs, video)
 *     xen-save-devices-state    QEMU writes its device state, without RAM, into a memfd
 *
 * The command has that name because Xen needed it first; it works in every x86 build, with and without Xen.
 */

import { constants, readFileSync } from 'node:fs';
import type { SlotBlock } from '../../channels/channel-block.js';
import type { PagePlace } from '../../channels/page-placer.js';
import { isZeroPage, wordsOf } from '../../channels/zero-page.js';
import { CHUNK_STATE, DigestTable } from '../../checksums/digest-table.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { lendFdset } from '../../guest/qemu/lent-fdset.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { closeFile, openFile, reopenFile } from '../../io/file/open-file.js';
import { shareRange } from '../../io/file/reflink.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import { createMemfd } from '../../io/memory/memfd.js';
import { PageOrigin, readPageMap } from '../../io/process/page-map.js';
import { checkManifest } from '../../manifest/check-manifest.js';
import { withoutManifest } from '../../manifest/description-text.js';
import type { Manifest } from '../../manifest/manifest.js';
import { PageBitmap } from '../../mapped-ram/bitmap.js';
import type { ImageBlock } from '../../mapped-ram/image.js';
import { writeFully } from '../../mapped-ram/positional-write.js';
import { splitTail } from '../../stream/device-sections.js';
import { encodeGlobalState, GLOBAL_STATE_SECTION } from '../../stream/global-state.js';
import { StreamWriter } from '../../stream/stream-writer.js';
import type { Count } from '../../units.js';
import type { BaseBlock, BaseSnapshot } from './base-snapshot.js';
import type { OutgoingSource, PlacedPages, SourceDevices, SourceSetup } from './migration-source.js';

/** What is read and written at once. */
const PIECE_BYTES = 2 ** 20;
/** Magic and version; the state that QEMU writes on its own has no configuration. */
const STATE_HEADER_BYTES = 8;

/** What was shared with the base, and what was written. */
export interface CopiedFigures {
  /** Path of the base when it was mapped. */
  file: string;
  /** Pages that the guest had changed, and pages of the blocks that are not mapped. */
  changedPages: Count;
  /** Whether the other pages take no space of their own. */
  shared: boolean;
}

export class QemuCopiedSource implements OutgoingSource {
  readonly #vm: QemuVm;
  readonly #base: BaseSnapshot;
  readonly #buffer = alignedBuffer(PIECE_BYTES);
  /** Of the base, where it is sound. */
  #manifest: Manifest | undefined;
  #runState = 'running';
  #place: PagePlace | undefined;
  #target: number | undefined;
  #basePages: Promise<void> | undefined;
  /** Pages, by block, that were private when the base was copied and therefore left out. */
  readonly #leftOut = new Map<string, Uint8Array>();
  #changedPages = 0;
  #normalPages = 0;
  #zeroPages = 0;
  #bytes = 0;
  #shared = true;
  #cancelled = false;

  constructor(vm: QemuVm, base: BaseSnapshot) {
    this.#vm = vm;
    this.#base = base;
  }

  get figures(): CopiedFigures {
    return { file: this.#base.path, changedPages: this.#changedPages, shared: this.#shared };
  }

  async setup(): Promise<SourceSetup> {
    this.#runState = await this.#vm.assertCanMigrate();
    const { image, blocks } = this.#base;
    const { manifest, problems } = await checkManifest(image);
    if (problems.length === 0) this.#manifest = manifest;
    return {
      configuration: image.configuration,
      earlySections: image.earlySectionBytes,
      pageSize: image.pageSize,
      ramSectionId: image.ramSectionId,
      blocks: blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
    };
  }

  place(where: PagePlace): void {
    this.#place = where;
    this.#target = openFile(where.path, constants.O_WRONLY | (where.direct ? O_DIRECT : 0));
    this.#basePages = this.#takeBasePages(where);
    this.#basePages.catch(() => {});
  }

  async stop(signal: AbortSignal): Promise<number[]> {
    await this.#basePages;
    signal.throwIfAborted();
    if (this.#wasRunning) await this.#vm.stop();
    for (const [block, placed] of this.#pairs()) {
      if (block.base === undefined) await this.#takeAll(block, placed, signal);
      else await this.#takeChanged(block, placed, signal);
    }
    return [];
  }

  async devices(): Promise<SourceDevices> {
    const state = await this.#saveDevices();
    const { image } = this.#base;
    const tail = await splitTail(state.subarray(STATE_HEADER_BYTES));
    if (!tail.complete) {
      throw new MapramError(
        'MIGRATION',
        `saving the VM at ${this.#vm.address}: its device state is incomplete: ${tail.problems.join(', ')}`,
        { path: this.#vm.address },
      );
    }
    recordState(
      tail.sections,
      this.#runState === 'running' && this.#vm.asleep ? 'suspended' : this.#runState,
    );
    const vmdescription = await fittingDescription(image.tail.descriptionText, tail.sectionBytes);
    return {
      sections: tail.sectionBytes,
      ...defined({ vmdescription }),
      switchoverStart: image.switchoverStart,
    };
  }

  placed(): PlacedPages {
    return {
      normalPages: this.#normalPages,
      duplicatePages: this.#zeroPages,
      bytes: this.#bytes,
      bytesBeforeStop: 0,
      channels: [],
    };
  }

  get #wasRunning(): boolean {
    return this.#runState === 'running';
  }

  async resume(): Promise<void> {
    if (this.#wasRunning && (await this.#vm.runState()) !== 'running') await this.#vm.cont();
  }

  async cancel(): Promise<void> {
    this.#cancelled = true;
    await this.#basePages?.catch(() => {});
    await this.resume().catch(() => {});
  }

  async dispose(): Promise<void> {
    this.#cancelled = true;
    await this.#basePages?.catch(() => {});
    if (this.#target !== undefined) closeFile(this.#target);
    this.#target = undefined;
  }

  *#pairs(): Generator<[BaseBlock, SlotBlock]> {
    for (const [index, block] of this.#base.blocks.entries()) {
      yield [block, (this.#place as PagePlace).blocks[index] as SlotBlock];
    }
  }

  /** While the guest runs: everything that the base has, but for pages that are known to have changed. */
  async #takeBasePages({ path }: PagePlace): Promise<void> {
    const { fd, pid } = this.#base;
    // Sharing needs a descriptor without O_DIRECT on some file systems.
    const target = openFile(path, constants.O_WRONLY);
    try {
      for (const [{ base, address, usedLength, idstr }, { pagesOffset }] of this.#pairs()) {
        if (base === undefined) continue;
        if (this.#shared && shareRange(fd, base.pagesOffset, usedLength, target, pagesOffset)) continue;
        this.#shared = false;
        const origins = readPageMap(pid, address, usedLength);
        this.#leftOut.set(idstr, origins);
        for (const { first, count } of base.bitmap.runs(0, base.pageCount, PIECE_BYTES / base.pageSize)) {
          if (this.#cancelled) return;
          for (const run of runsOf(
            origins,
            first,
            first + count,
            (origin) => origin !== PageOrigin.PRIVATE,
          )) {
            await this.#copyFromBase(base, run, pagesOffset);
          }
        }
      }
    } finally {
      closeFile(target);
    }
  }

  async #copyFromBase(base: NonNullable<BaseBlock['base']>, run: Run, pagesOffset: number): Promise<void> {
    const bytes = await this.#base.image.readRun(base, run);
    const aligned = this.#buffer.subarray(0, bytes.byteLength);
    aligned.set(bytes);
    await this.#write(aligned, pagesOffset + run.first * base.pageSize);
  }

  /** Guest stopped: pages that it has changed come from its memory, the others keep the bit of the base. */
  async #takeChanged(block: BaseBlock, placed: SlotBlock, signal: AbortSignal): Promise<void> {
    const base = block.base as NonNullable<BaseBlock['base']>;
    const bitmap = new PageBitmap(base.pageCount, placed.bitmap);
    const origins = readPageMap(this.#base.pid, block.address, block.usedLength);
    bitmap.bytes.set(base.bitmap.bytes);
    for (const run of runsWith(PageOrigin.PRIVATE, origins)) {
      signal.throwIfAborted();
      await this.#takeRun(block, placed, bitmap, run);
    }
    const leftOut = this.#leftOut.get(block.idstr);
    if (leftOut !== undefined) {
      // Pages that were private before and are not any more have the contents of the base again.
      const again = leftOut.map((origin, page) =>
        origin === PageOrigin.PRIVATE && origins[page] !== PageOrigin.PRIVATE && base.bitmap.test(page)
          ? 1
          : 0,
      );
      for (const run of runsWith(1, again)) {
        await this.#copyFromBase(base, run, placed.pagesOffset);
      }
    }
    this.#takeDigests(base, placed, origins);
    this.#count(bitmap);
  }

  /** Chunks in which nothing has changed keep the digests that the base's manifest has for them. */
  #takeDigests(base: ImageBlock, placed: SlotBlock, origins: Uint8Array): void {
    const { checksums, blocks } = this.#manifest ?? {};
    const known = blocks?.find(({ idstr }) => idstr === base.idstr)?.digests;
    const shape = placed.digests;
    if (!shape || known === undefined) return;
    if (checksums?.algorithm !== shape.algorithm || checksums.chunkBytes !== shape.chunkBytes) return;
    const table = new DigestTable(shape);
    const before = Buffer.from(known, 'base64');
    const pages = shape.chunkBytes / base.pageSize;
    if (before.length !== table.digests.length) return;
    table.digests.set(before);
    for (let chunk = 0; chunk < table.count; chunk++) table.setState(chunk, CHUNK_STATE.done);
    for (let page = origins.indexOf(PageOrigin.PRIVATE); page >= 0; ) {
      const chunk = Math.floor(page / pages);
      table.setState(chunk, CHUNK_STATE.none);
      page = origins.indexOf(PageOrigin.PRIVATE, (chunk + 1) * pages);
    }
  }

  async #takeAll(block: BaseBlock, placed: SlotBlock, signal: AbortSignal): Promise<void> {
    const pages = block.usedLength / placed.pageSize;
    const bitmap = new PageBitmap(pages, placed.bitmap);
    const step = PIECE_BYTES / placed.pageSize;
    for (let first = 0; first < pages; first += step) {
      signal.throwIfAborted();
      await this.#takeRun(block, placed, bitmap, { first, count: Math.min(step, pages - first) });
    }
    this.#count(bitmap);
  }

  /** Pages of the stopped guest, at most a piece of them: those that are not zero go to their slots. */
  async #takeRun(
    block: BaseBlock,
    placed: SlotBlock,
    bitmap: PageBitmap,
    { first, count }: Run,
  ): Promise<void> {
    const { pageSize, pagesOffset } = placed;
    const memory = this.#buffer.subarray(0, count * pageSize);
    this.#base.memory.read(block.address + BigInt(first * pageSize), memory);
    const words = wordsOf(memory);
    const zero = (index: number) => isZeroPage(memory, words, index * pageSize, pageSize);
    for (let index = 0; index < count; ) {
      if (zero(index)) {
        bitmap.clear(first + index);
        index++;
        continue;
      }
      let end = index + 1;
      while (end < count && !zero(end)) end++;
      await this.#write(
        memory.subarray(index * pageSize, end * pageSize),
        pagesOffset + (first + index) * pageSize,
      );
      bitmap.setRange(first + index, end - index);
      index = end;
    }
    this.#changedPages += count;
  }

  #count(bitmap: PageBitmap): void {
    const normal = bitmap.count();
    this.#normalPages += normal;
    this.#zeroPages += bitmap.pageCount - normal;
  }

  async #write(bytes: Uint8Array, position: number): Promise<void> {
    const { name } = this.#place as PagePlace;
    await writeFully(this.#target as number, bytes, position, name);
    this.#bytes += bytes.byteLength;
  }

  async #saveDevices(): Promise<Buffer> {
    const memfd = createMemfd('mapram device state', 0);
    try {
      const writable = reopenFile(memfd, constants.O_WRONLY);
      await using lent = await lendFdset(this.#vm, [writable]).finally(() => closeFile(writable));
      await this.#vm.client.execute('xen-save-devices-state', { filename: lent.path, live: false });
      // A guest in S3 comes out of it as `save-vm`, from which "cont" takes it back to sleep.
      if ((await this.#vm.runState()) === 'save-vm') await this.#vm.cont();
      return readFileSync(`/proc/self/fd/${memfd}`);
    } finally {
      closeFile(memfd);
    }
  }
}

interface Run {
  first: number;
  count: number;
}

/** Runs of pages, at most a piece long, that have this value, as few of many have. */
function* runsWith(value: number, values: Uint8Array): Generator<Run> {
  const maximum = PIECE_BYTES / 4096;
  for (let page = values.indexOf(value); page >= 0; ) {
    let end = page + 1;
    while (end < values.length && end - page < maximum && values[end] === value) end++;
    yield { first: page, count: end - page };
    page = values.indexOf(value, end);
  }
}

/** Runs of pages, at most a piece long, whose value `fits`. */
function* runsOf(
  values: Uint8Array,
  from: number,
  to: number,
  fits: (value: number) => boolean,
): Generator<Run> {
  const maximum = PIECE_BYTES / 4096;
  for (let page = from; page < to; ) {
    if (!fits(values[page] as number)) {
      page++;
      continue;
    }
    let end = page + 1;
    while (end < to && end - page < maximum && fits(values[end] as number)) end++;
    yield { first: page, count: end - page };
    page = end;
  }
}

/**
 * The description of the base's device state, when it fits these sections too: QEMU makes none for a state without RAM, but
 * the devices are the same. Optional parts may have come or gone.
 */
async function fittingDescription(
  text: string | undefined,
  sections: Uint8Array,
): Promise<string | undefined> {
  if (text === undefined) return undefined;
  const description = await withoutManifest(text);
  const described = new StreamWriter().raw(sections).eof().vmdescription(description).drainBytes();
  const { sections: split, problems } = await splitTail(described);
  const fits = problems.length === 0 && split.every(({ delimitedBy }) => delimitedBy === 'description');
  return fits ? description : undefined;
}

/** QEMU writes `running` into such a state, whatever the VM was. */
function recordState(sections: readonly { idstr: string; data: Uint8Array }[], runState: string): void {
  const section = sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
  const state = encodeGlobalState(runState);
  if (section !== undefined && section.data.byteLength >= state.byteLength) section.data.set(state);
}
