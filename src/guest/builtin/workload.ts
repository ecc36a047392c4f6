import { readSync, writeSync } from 'node:fs';
import type { DirtyLog } from './dirty-log.js';
import { fillInitial, fillRandom, isFilled, mix, pageHash } from './memory-content.js';
import { type BuiltinGuestSettings, PAGE_SIZE } from './options.js';

/** Ticks in a second of guest time. */
export const TICKS_PER_SECOND = 100;
/** Bytes that the serial port keeps. */
export const FIFO_BYTES = 16;

const CHUNK_PAGES = 256;
/** Pages that are rewritten in a row. */
const RUN_PAGES = 16;
const COUNTER_OFFSET = 64;
const BANNER = Buffer.from('mapram builtin guest\n');

/** All that the guest is, its memory apart. Its future follows from this and its memory alone. */
export interface WorkloadState {
  /** Ticks since the guest began: its counter. */
  ticks: number;
  /** State of the pseudo-random generator, never 0. */
  generator: number;
  /** Pages rewritten so far. */
  pagesWritten: number;
  /** XOR of all page hashes, ROM included. */
  memoryChecksum: number;
  /** Bytes printed on the serial port so far. */
  printed: number;
  /** The newest of them, at most `FIFO_BYTES`. */
  fifo: Uint8Array;
}

/** Memory of one block as the workload sees it. */
export interface WorkloadBlock {
  fd: number;
  /** Where in that file the block begins. */
  fdOffset: number;
  pages: number;
  /** Number of its first page, counted over all blocks. */
  firstPage: number;
  rom: boolean;
  log: DirtyLog;
}

/** A range of bytes of a block that is not a hole. */
export interface BlockExtent {
  block: number;
  start: number;
  end: number;
}

/**
 * The only program that the builtin guest runs. At each tick it raises a counter in page 0 of the first block and
 * rewrites runs of pages in the first quarter of each RAM block, one run in eight with zeros, so that pages go back and forth
 * between zero and not.
 */
export class Workload {
  readonly #blocks: readonly WorkloadBlock[];
  readonly #ram: readonly WorkloadBlock[];
  readonly #settings: BuiltinGuestSettings;
  readonly #logging: () => boolean;
  readonly #hashes: Uint32Array;
  readonly #words = new Uint32Array(PAGE_SIZE / 4);
  readonly #page = Buffer.from(this.#words.buffer);
  #state: WorkloadState;

  constructor(blocks: readonly WorkloadBlock[], settings: BuiltinGuestSettings, logging: () => boolean) {
    this.#blocks = blocks;
    this.#ram = blocks.filter((block) => !block.rom);
    this.#settings = settings;
    this.#logging = logging;
    this.#hashes = new Uint32Array(blocks.reduce((pages, block) => pages + block.pages, 0));
    this.#state = {
      ticks: 0,
      generator: mix(settings.seed ^ 0x6d617072) || 1,
      pagesWritten: 0,
      memoryChecksum: 0,
      printed: 0,
      fifo: new Uint8Array(0),
    };
  }

  get state(): WorkloadState {
    return { ...this.#state };
  }

  set state(state: WorkloadState) {
    this.#state = { ...state };
  }

  /** Gives memory its first content. */
  fill(): void {
    const { pattern, fill, seed } = this.#settings;
    for (const block of this.#blocks) {
      const chunk = Buffer.alloc(CHUNK_PAGES * PAGE_SIZE);
      for (let first = 0; first < block.pages; first += CHUNK_PAGES) {
        const pages = Math.min(CHUNK_PAGES, block.pages - first);
        if (!block.rom && !isFilled(first, pattern, fill)) continue;
        for (let index = 0; index < pages; index += 1) {
          const at = index * PAGE_SIZE;
          const words = new Uint32Array(chunk.buffer, chunk.byteOffset + at, PAGE_SIZE / 4);
          // A ROM is the same in every guest, whatever its seed.
          if (block.rom) fillRandom(words, first + index);
          else fillInitial(words, block.firstPage + first + index, pattern, seed);
          this.#count(block.firstPage + first + index, chunk.subarray(at, at + PAGE_SIZE));
        }
        writeAll(block.fd, chunk.subarray(0, pages * PAGE_SIZE), block.fdOffset + first * PAGE_SIZE);
      }
    }
    this.#writeCounter();
  }

  /**
   * Computes the checksum of what is in memory now, reading the given extents only; the rest counts as zeros.
   *
   * @returns the checksum; the state keeps the one that memory should have
   */
  rehash(extents: readonly BlockExtent[]): number {
    this.#hashes.fill(0);
    let checksum = 0;
    const chunk = Buffer.alloc(CHUNK_PAGES * PAGE_SIZE);
    for (const extent of extents) {
      const block = this.#blocks[extent.block];
      if (block === undefined) continue;
      const firstPage = Math.floor(extent.start / PAGE_SIZE);
      const endPage = Math.min(block.pages, Math.ceil(extent.end / PAGE_SIZE));
      for (let first = firstPage; first < endPage; first += CHUNK_PAGES) {
        const pages = Math.min(CHUNK_PAGES, endPage - first);
        readAll(block.fd, chunk.subarray(0, pages * PAGE_SIZE), block.fdOffset + first * PAGE_SIZE);
        for (let index = 0; index < pages; index += 1) {
          const pageIndex = block.firstPage + first + index;
          const hash = pageHash(chunk.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE), pageIndex);
          this.#hashes[pageIndex] = hash;
          checksum ^= hash;
        }
      }
    }
    return checksum >>> 0;
  }

  /** One step of guest time. */
  tick(): void {
    const pages = this.#pagesInTick();
    this.#state.ticks += 1;
    this.#writeCounter();
    for (let done = 0; done < pages; ) done += this.#rewriteRun(pages - done);
    if (this.#state.ticks % TICKS_PER_SECOND === 0) this.#print(`tick ${this.#state.ticks}\n`);
  }

  /** The whole pages that this tick may write so that all ticks together keep the rate. */
  #pagesInTick(): number {
    const { ticks } = this.#state;
    const { dirtyRate } = this.#settings;
    const perTick = BigInt(PAGE_SIZE * TICKS_PER_SECOND);
    const until = (count: number) => (BigInt(count) * BigInt(dirtyRate)) / perTick;
    return Number(until(ticks + 1) - until(ticks));
  }

  /**
   * Rewrites a few pages in a row, as programs do, but no more than `limit`.
   *
   * @returns how many
   */
  #rewriteRun(limit: number): number {
    const block = this.#ram[this.#random() % this.#ram.length] as WorkloadBlock;
    const end = Math.max(2, Math.floor(block.pages / 4));
    // Page 0 of a block is left out: in the first block it holds the counter.
    const first = 1 + (this.#random() % (end - 1));
    const count = Math.min(RUN_PAGES, limit, end - first);
    const toZero = this.#random() % 8 === 0;
    for (let page = first; page < first + count; page += 1) {
      if (toZero) this.#words.fill(0);
      else fillRandom(this.#words, this.#random());
      this.#writePage(block, page);
    }
    this.#state.pagesWritten += count;
    return count;
  }

  #writeCounter(): void {
    const [block] = this.#ram;
    if (block === undefined) return;
    this.#page.fill(0);
    BANNER.copy(this.#page);
    this.#page.writeBigUInt64LE(BigInt(this.#state.ticks), COUNTER_OFFSET);
    this.#writePage(block, 0);
  }

  #writePage(block: WorkloadBlock, page: number): void {
    this.#count(block.firstPage + page, this.#page);
    writeAll(block.fd, this.#page, block.fdOffset + page * PAGE_SIZE);
    if (this.#logging()) block.log.mark(page);
  }

  /** Exchanges a page's share in the checksum. */
  #count(pageIndex: number, content: Uint8Array): void {
    const hash = pageHash(content, pageIndex);
    this.#state.memoryChecksum = (this.#state.memoryChecksum ^ (this.#hashes[pageIndex] ?? 0) ^ hash) >>> 0;
    this.#hashes[pageIndex] = hash;
  }

  #print(text: string): void {
    const all = Buffer.concat([this.#state.fifo, Buffer.from(text)]);
    this.#state.printed += text.length;
    this.#state.fifo = new Uint8Array(all.subarray(-FIFO_BYTES));
  }

  /** Xorshift, 32 bits. */
  #random(): number {
    let x = this.#state.generator;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state.generator = x >>> 0;
    return this.#state.generator;
  }
}

// Guest memory is an ordinary memory file: no system call that Node lacks is needed here, and none may be used,
// because this runs in a worker.
function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}

function readAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(fd, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new Error(`guest memory ends at ${position + done}`);
    done += read;
  }
}
