import { EventEmitter } from 'node:events';
import * as v from 'valibot';
import { assertOptions, oneOf, optionsOf } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { createMemfd } from '../../io/memory/memfd.js';
import type { DeviceState, DirtyTrackingGuest, GuestRamBlock, RunState } from '../guest.js';
import { decodeDevices, encodeDevices } from './devices.js';
import { DirtyLog } from './dirty-log.js';
import {
  type BuiltinGuestOptions,
  type BuiltinGuestSettings,
  PAGE_SIZE,
  PATTERNS,
  resolveBuiltinOptions,
} from './options.js';
import { type CpuReply, VirtualCpu } from './virtual-cpu.js';
import type { BlockExtent, WorkloadState } from './workload.js';

/** What the builtin guest calls itself in a stream's configuration. */
export const BUILTIN_MACHINE = 'mapram-builtin-1.0';

/** Name of the RAM block that holds its ROM; every machine has one. */
export const BUILTIN_ROM = 'builtin.rom';
const ROM_BYTES = 64 * 1024;
/** RAM begins at 1 MiB, behind the ROM. */
const RAM_ADDRESS = 2 ** 20;

/** How the guest begins. */
export interface BuiltinGuestStart {
  /** `incoming`: with empty memory, waiting for `loadDevices`. `paused`: filled, not running. Default: running. */
  readonly begin?: 'running' | 'paused' | 'incoming' | undefined;
}

/** How large or how many: see `resolveBuiltinOptions`. */
const number = v.optional(v.number('a number'));

const StartOptionsSchema = optionsOf<BuiltinGuestOptions & BuiltinGuestStart>({
  size: number,
  pattern: v.optional(oneOf(PATTERNS)),
  fill: number,
  dirtyRate: number,
  seed: number,
  blocks: number,
  begin: v.optional(oneOf(['running', 'paused', 'incoming'])),
});

/** What `checkMemory` found. */
export interface MemoryCheck {
  readonly ok: boolean;
  /** What the guest's own bookkeeping says, 32 bits. */
  readonly expected: number;
  /** What is in memory, 32 bits. */
  readonly actual: number;
}

interface BuiltinGuestEvents {
  runState: [state: RunState];
}

/**
 * A small machine inside this process, for trying, testing and measuring without a QEMU: RAM in memory files, a
 * ROM, four devices with a device state, and one program, that raises a counter and rewrites memory at a bounded rate.
 *
 * Everything it does follows from its options: two guests with the same ones hold the same memory at the same tick,
 * also when one of them was saved and loaded in between. Its device state carries a checksum of its memory,
 * so that a loaded guest knows whether its memory is the right one.
 */
export class BuiltinGuest extends EventEmitter<BuiltinGuestEvents> implements DirtyTrackingGuest {
  readonly machine = BUILTIN_MACHINE;
  readonly settings: BuiltinGuestSettings;
  readonly blocks: readonly GuestRamBlock[];
  readonly #logs: readonly DirtyLog[];
  readonly #cpu: VirtualCpu;
  #runState: RunState;
  #state: WorkloadState | undefined;
  /** Device state that was loaded and not yet held against memory. */
  #unchecked = false;
  #starting: Promise<void> | undefined;
  #running: Promise<CpuReply> | undefined;
  #disposed: Promise<void> | undefined;

  private constructor(settings: BuiltinGuestSettings, blocks: readonly GuestRamBlock[], begin: RunState) {
    super();
    this.settings = settings;
    this.blocks = blocks;
    this.#runState = begin;
    this.#logs = blocks.map(
      (block) => new DirtyLog(new SharedArrayBuffer(DirtyLog.bytesFor(block.usedLength / PAGE_SIZE))),
    );
    let firstPage = 0;
    const cpuBlocks = blocks.map((block, index) => {
      const pages = block.usedLength / PAGE_SIZE;
      firstPage += pages;
      const log = this.#log(index).buffer;
      return {
        fd: block.fd,
        fdOffset: block.fdOffset,
        pages,
        firstPage: firstPage - pages,
        rom: block.idstr === BUILTIN_ROM,
        log,
      };
    });
    this.#cpu = new VirtualCpu({ blocks: cpuBlocks, settings });
  }

  /**
   * Builds the machine and fills its memory.
   *
   * @throws MapramError `USAGE` for options out of range, `IO` when there is no memory to be had
   */
  static async start(options: BuiltinGuestOptions & BuiltinGuestStart = {}): Promise<BuiltinGuest> {
    assertOptions('BuiltinGuest.start', StartOptionsSchema, options);
    const { begin = 'running', ...rest } = options;
    const settings = resolveBuiltinOptions(rest);
    const blocks = createBlocks(settings);
    const guest = new BuiltinGuest(settings, blocks, begin === 'incoming' ? 'inmigrate' : 'prelaunch');
    try {
      if (begin !== 'incoming') {
        guest.#state = (await guest.#cpu.request({ kind: 'fill' })).state;
        if (begin === 'running') await guest.cont();
      }
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  get runState(): RunState {
    return this.#runState;
  }

  /** Ticks since the guest first began, readable while it runs. 100 a second at full speed. */
  get ticks(): number {
    return this.#running === undefined ? (this.#state?.ticks ?? 0) : this.#cpu.ticks;
  }

  async stop(state: 'paused' | 'finish-migrate' | 'save-vm' = 'paused'): Promise<void> {
    // A start that fails is told to whoever asked for it.
    await this.#starting?.catch(() => {});
    if (this.#running === undefined) return;
    this.#cpu.halt();
    const running = this.#running;
    this.#state = (await running).state;
    // A second caller of stop waited for the same run.
    if (this.#running !== running) return;
    this.#running = undefined;
    this.#setRunState(state);
  }

  /** Marks a stopped guest as saved, as QEMU does; it can still go on. */
  markSaved(): void {
    this.#demandStopped('marking it as saved');
    this.#setRunState('postmigrate');
  }

  /** @throws MapramError `VM` when memory is not what the loaded device state says, or nothing was loaded yet */
  cont(): Promise<void> {
    if (this.#running !== undefined) return Promise.resolve();
    this.#starting ??= this.#startRunning().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #startRunning(): Promise<void> {
    this.#demandStopped('continuing');
    if (this.#unchecked) {
      const { ok, expected, actual } = await this.checkMemory();
      if (!ok) {
        this.#setRunState('guest-panicked');
        throw new MapramError(
          'VM',
          `continuing the builtin guest: its memory has checksum ${hex(actual)} and should have ${hex(expected)}; the memory that was loaded is not the memory that was saved`,
        );
      }
    }
    this.#running = this.#cpu.request({ kind: 'run' });
    this.#running.catch(() => this.#setRunState('internal-error'));
    this.#setRunState('running');
  }

  /** Advances a stopped guest by so many ticks, as fast as it can. */
  async step(ticks: number): Promise<void> {
    this.#demandStopped('stepping');
    if (this.#unchecked) await this.checkMemory();
    this.#state = (await this.#cpu.request({ kind: 'step', ticks })).state;
  }

  startDirtyLog(): void {
    for (const log of this.#logs) log.clear();
    this.#cpu.logging = true;
  }

  syncDirty(block: number, into: Uint8Array): number {
    return this.#log(block).fetch(into);
  }

  stopDirtyLog(): void {
    this.#cpu.logging = false;
  }

  saveDevices(runState: 'running' | 'paused' = 'paused'): DeviceState {
    return encodeDevices({ ...this.#demandStopped('saving its devices'), runState });
  }

  /** Memory is held against the loaded state at the next `cont`, or by `checkMemory`. */
  loadDevices(sections: Uint8Array): string | undefined {
    if (this.#runState !== 'inmigrate') {
      throw new MapramError(
        'VM',
        `loading the builtin guest: it is ${this.#runState}, and only a guest that was begun as incoming can be loaded`,
      );
    }
    const { runState, ...state } = decodeDevices(sections);
    this.#state = state;
    this.#unchecked = true;
    // Requests are taken in order: whatever comes next finds the state in place. A dead thread fails that one too.
    this.#cpu.request({ kind: 'load', state: this.#state }).catch(() => {});
    this.#setRunState('paused');
    return runState;
  }

  /** Reads all memory, holes apart, and compares it with the checksum that the guest kept while writing. */
  async checkMemory(): Promise<MemoryCheck> {
    const { memoryChecksum: expected } = this.#demandStopped('checking its memory');
    const extents: BlockExtent[] = this.blocks.flatMap(({ fd, fdOffset, usedLength }, block) =>
      [...dataExtents(fd, fdOffset, fdOffset + usedLength)].map(({ start, end }) => ({
        block,
        start: start - fdOffset,
        end: end - fdOffset,
      })),
    );
    const { checksum: actual = 0 } = await this.#cpu.request({ kind: 'rehash', extents });
    this.#unchecked &&= actual !== expected;
    return { ok: actual === expected, expected, actual };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Ends the thread and gives the memory back. Maps of it must be closed first. */
  close(): Promise<void> {
    this.#disposed ??= this.#cpu.end().finally(() => {
      releaseFiles(new Set(this.blocks.map((block) => block.fd)));
    });
    return this.#disposed;
  }

  #log(block: number): DirtyLog {
    const log = this.#logs[block];
    if (log === undefined) throw new RangeError(`the builtin guest has no RAM block ${block}`);
    return log;
  }

  #demandStopped(doing: string): WorkloadState {
    if (this.#running !== undefined || this.#state === undefined) {
      const why = this.#running === undefined ? 'nothing was loaded into it yet' : 'it must be stopped first';
      throw new MapramError('VM', `${doing} of the builtin guest: it is ${this.#runState}; ${why}`);
    }
    return this.#state;
  }

  #setRunState(state: RunState): void {
    if (this.#runState === state) return;
    this.#runState = state;
    this.emit('runState', state);
  }
}

/** All blocks lie in one file, one behind the other: whoever places pages needs a single descriptor. */
function createBlocks({ size, blocks: count }: BuiltinGuestSettings): GuestRamBlock[] {
  const each = size / count;
  const shapes = Array.from({ length: count }, (_, index) => ({
    idstr: count === 1 ? 'builtin.ram' : `builtin.ram${index}`,
    usedLength: each,
    guestAddress: RAM_ADDRESS + index * each,
    fdOffset: index * each,
  }));
  shapes.push({ idstr: BUILTIN_ROM, usedLength: ROM_BYTES, guestAddress: 0, fdOffset: size });
  const fd = createMemfd('mapram builtin.ram', size + ROM_BYTES);
  return shapes.map((shape) => ({ ...shape, pageSize: PAGE_SIZE, fd }));
}

function hex(checksum: number): string {
  return `0x${checksum.toString(16).padStart(8, '0')}`;
}
