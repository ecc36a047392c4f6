/**
 * Holds the memory of a VM that has been loaded, and does not run yet, against the file. What can be known before a load is checked
 * before; this finds what nobody has thought of: a QEMU that leaves old pages, that writes where it was thought not to, or that has
 * read something else.
 *
 * A sample takes a fraction of the time of a load:
 *
 *     memory that was loaded     pages at 64 places of the machine's memory, at others each time,
 *                                and pages that are zero in the file where the VM holds anything
 *     memory that is mapped      pages that QEMU has made its own, and stale slots; all others are the file's
 *
 * Devices and hypervisors write a little on purpose when they get their state: the generation id (16 bytes), KVM its wall clock (12).
 */
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { BlockMemory, type ReadMemory } from '../../guest/qemu/block-memory.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { openSharedRam } from '../../guest/qemu/shared-ram.js';
import { readProcessMaps } from '../../io/process/process-maps.js';
import { ProcessMemory } from '../../io/process/process-memory.js';
import { PageBitmap, type PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { CheckedFile } from '../files/checked-file.js';
import { staleRuns } from '../resume/state-stream.js';
import { mappedBlocks } from './mapped-memory.js';
import { differs, type IsUnlike, unlikePages } from './unlike-pages.js';
import type { WrittenPages } from './written-before-load.js';

export const MEMORY_CHECKS = ['sample', 'all', 'off'] as const;

/** How much of the memory is looked at before the guest runs. */
export type MemoryCheck = (typeof MEMORY_CHECKS)[number];

/** Of each kind of pages, in a sample. */
const SAMPLED_PAGES = 1024;
/** Neighbours that are looked at together. */
const RUN_PAGES = 16;

/** What may differ in a page on purpose lies within as many bytes. */
const WRITTEN_ON_PURPOSE = 64;

export interface CheckedMemory {
  checkedPages: number;
}

/** How to look at the memory of a VM into which a file is going to be loaded. */
export class LoadedMemory {
  private constructor(
    private readonly vm: QemuVm,
    private readonly image: MappedRamImage,
    private readonly pid: number,
    private readonly how: MemoryCheck,
  ) {}

  /**
   * Whether it can be looked at is known before anything is loaded.
   *
   * @returns undefined where nothing is to be checked, or a sample cannot be
   * @throws MapramError `UNSUPPORTED` where all is to be checked and cannot be
   */
  static async prepare(
    vm: QemuVm,
    image: MappedRamImage,
    how: MemoryCheck,
  ): Promise<LoadedMemory | undefined> {
    if (how === 'off') return undefined;
    const problem = await whyNotReadable(vm);
    const pid = vm.peerPid();
    if (problem === undefined && pid !== undefined) return new LoadedMemory(vm, image, pid, how);
    if (how === 'sample') return undefined;
    throw new MapramError(
      'UNSUPPORTED',
      `loading ${image.path} into the VM at ${vm.address} with its memory checked afterwards: ${problem ?? 'its process is not on this host'}`,
      { path: vm.address },
    );
  }

  /** @throws MapramError `VM` where the memory is not what the file says */
  async assertAsSaved(signal?: AbortSignal): Promise<CheckedMemory> {
    const { vm, image, pid, how } = this;
    using process = ProcessMemory.open(pid);
    using memories = await openMemories(vm, process);
    const saved = image.blocks.filter((block) => memories.of(block) !== undefined);
    const total = saved.reduce((sum, { pageCount }) => sum + pageCount, 0);
    const check = new Comparison(image, how, signal);
    for (const block of saved) {
      const memory = memories.of(block);
      if (memory === undefined) continue;
      const zero = heldZeroPages(block, memory);
      if (how === 'all') {
        await check.compare(block, block.bitmap.runs(), memory.read);
        await check.compare(block, zero.runs(), memory.read);
      } else {
        const share = SAMPLED_PAGES * (block.pageCount / total);
        await check.compare(block, sampled(block.bitmap, share, RUN_PAGES), memory.read);
        await check.compare(block, sampled(zero, share), memory.read);
      }
    }
    check.assertNone(`loading ${image.path} into the VM at ${vm.address}`);
    return { checkedPages: check.pages };
  }
}

/**
 * As `LoadedMemory`, of a QEMU that has blocks mapped from the file.
 *
 * @param resent pages that came with the state, since QEMU had written to them before
 * @returns undefined where QEMU's memory may not be read
 * @throws MapramError `VM` where it is not what the file says; `UNSUPPORTED` as `mappedBlocks`
 */
export async function assertMappedAsSaved(
  image: MappedRamImage,
  checked: CheckedFile,
  how: MemoryCheck,
  { pid, mapped, resent }: { pid: number; mapped: readonly string[]; resent: readonly WrittenPages[] },
): Promise<CheckedMemory | undefined> {
  if (how === 'off' || mapped.length === 0) return undefined;
  const { qemu, blocks } = mappedBlocks(image, checked, pid, mapped);
  const check = new Comparison(image, how);
  let memory: ProcessMemory | undefined;
  try {
    for (const { block, address, written } of blocks) {
      const own = new PageBitmap(block.pageCount);
      for (const { first, count } of written) own.setRange(first, count);
      for (const { first, count } of staleRuns(block, checked.fd)) own.setRange(first, count);
      const sent = resent.flatMap((one) => (one.block === block ? [one.run] : []));
      if (own.nextSet(0) === own.pageCount && sent.length === 0) continue;
      memory ??= openMemory(qemu, checked.path, how);
      if (memory === undefined) return undefined;
      const opened = memory;
      const read: ReadMemory = (start, into) => opened.read(address + BigInt(start), into);
      await check.compare(block, how === 'all' ? own.runs() : sampled(own), read);
      await check.compare(block, sent, read, differs);
    }
  } finally {
    memory?.[Symbol.dispose]();
  }
  check.assertNone(`resuming ${checked.path}`);
  return { checkedPages: check.pages };
}

function openMemory(pid: number, file: string, how: MemoryCheck): ProcessMemory | undefined {
  try {
    return ProcessMemory.open(pid);
  } catch (error) {
    if (how === 'sample') return undefined;
    throw new MapramError(
      'UNSUPPORTED',
      `resuming ${file} with its memory checked afterwards: ${errorReason(error)}`,
      { path: file, cause: error },
    );
  }
}

async function whyNotReadable(vm: QemuVm): Promise<string | undefined> {
  const pid = vm.peerPid();
  if (pid === undefined) return 'its process is not on this host';
  try {
    using process = ProcessMemory.open(pid);
    using memories = await openMemories(vm, process);
    return memories.some ? undefined : `QEMU ${vm.versionText} does not tell where its memory is`;
  } catch (error) {
    return errorReason(error);
  }
}

interface Memories extends Disposable {
  /** Whether there is any. */
  some: boolean;
  of: (block: ImageBlock) => BlockMemory | undefined;
}

/** Of the machine's memory: by the address that QEMU tells; where it does not (before 8.1), those blocks that are shared, by their files. */
async function openMemories(vm: QemuVm, process: ProcessMemory): Promise<Memories> {
  const names = await memoryNames(vm);
  const blocks = (await vm.ramBlocks()).filter(({ idstr }) => names.has(idstr));
  const opened = new Map<string, BlockMemory>();
  const memories: Memories = {
    some: true,
    of: ({ idstr }) => opened.get(idstr),
    [Symbol.dispose]: () => {
      for (const memory of opened.values()) memory[Symbol.dispose]();
    },
  };
  try {
    if (blocks.some(({ hostAddress }) => hostAddress !== undefined)) {
      const maps = readProcessMaps(process.pid);
      for (const block of blocks)
        if (block.hostAddress !== undefined) opened.set(block.idstr, BlockMemory.open(process, block, maps));
    } else {
      const shared = await openSharedRam(vm, process.pid);
      for (const block of shared.opened) opened.set(block.idstr, BlockMemory.ofFile(process, block));
    }
    return { ...memories, some: opened.size > 0 };
  } catch (error) {
    memories[Symbol.dispose]();
    throw error;
  }
}

/** Names of the blocks that are the machine's memory, to which no device writes while the guest does not run. */
async function memoryNames(vm: QemuVm): Promise<Set<string>> {
  const objects = await vm.client.execute('qom-list', { path: '/objects' });
  const backends = objects.filter(({ type }) => type.startsWith('child<memory-backend-'));
  const usual = await vm.defaultRamId();
  const names = backends.flatMap(({ name }) => [name, `/objects/${name}`]);
  return new Set(usual === undefined ? names : [usual, ...names]);
}

/** Pages that are zero in the file where the VM's memory holds something, zeros perhaps. */
function heldZeroPages({ bitmap, pageCount, pageSize }: ImageBlock, memory: BlockMemory): PageBitmap {
  const held = new PageBitmap(pageCount);
  for (const { start, end } of memory.held()) {
    const [first, last] = [Math.floor(start / pageSize), Math.ceil(end / pageSize)];
    for (const run of bitmap.clearRuns(first, last)) held.setRange(run.first, run.count);
  }
  return held;
}

/**
 * All of a few pages, and evenly as many of many, at other places each time.
 *
 * @param limit about how many pages
 * @param together neighbours that are taken together
 */
function* sampled(pages: PageBitmap, limit = SAMPLED_PAGES, together = 1): Generator<PageRun> {
  const step = Math.max(together, (pages.count() / Math.max(limit, 1)) * together);
  if (step <= together) return yield* pages.runs();
  let next = Math.random() * (step - together);
  let passed = 0;
  for (const { first, count } of pages.runs()) {
    for (; next < passed + count; next += step) {
      const from = Math.floor(next) - passed;
      yield { first: first + from, count: Math.min(together, count - from) };
    }
    passed += count;
  }
}

/** More than a few bytes in a row are other. */
const differsByMore: IsUnlike = (present, saved, start, end) => {
  if (!differs(present, saved, start, end)) return false;
  let first = start;
  while (present[first] === saved[first]) first++;
  let last = end - 1;
  while (present[last] === saved[last]) last--;
  return last - first >= WRITTEN_ON_PURPOSE;
};

class Comparison {
  pages = 0;
  #unlike = 0;
  #first: { block: ImageBlock; page: number } | undefined;

  constructor(
    private readonly image: MappedRamImage,
    private readonly how: MemoryCheck,
    private readonly signal?: AbortSignal,
  ) {}

  async compare(
    block: ImageBlock,
    runs: Iterable<PageRun>,
    read: ReadMemory,
    isUnlike: IsUnlike = differsByMore,
  ): Promise<void> {
    for (const run of runs) {
      this.signal?.throwIfAborted();
      this.pages += run.count;
      const [page, ...others] = await unlikePages(this.image, block, run, read, isUnlike);
      if (page === undefined) continue;
      this.#first ??= { block, page };
      this.#unlike += 1 + others.length;
    }
  }

  assertNone(doing: string): void {
    if (this.#first === undefined) return;
    const { block, page } = this.#first;
    const seen = this.how === 'all' ? '' : ', of those that were looked at';
    throw new MapramError(
      'VM',
      `${doing}: QEMU has taken the state, but its memory is not what the file says in ${this.#unlike} of ${this.pages} pages${seen}, the first at ${block.idstr} + 0x${(page * block.pageSize).toString(16)}; the guest was not let run, end this QEMU and use "mapram restore --method stream" with a new one`,
      { path: this.image.path, ...defined({ offset: block.pagesOffset + page * block.pageSize }) },
    );
  }
}
