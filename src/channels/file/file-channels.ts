/**
 * File channels: worker threads that move guest pages between memory and their slots in a mapped-ram image, each
 * through a descriptor of its own. QEMU's multifd channels for `file:` targets, with `direct-io` opened O_DIRECT.
 *
 * No page passes through the main thread. It opens files, maps memory, starts passes and owns everything that must be given
 * back: a worker's end would release neither descriptors nor mappings.
 */

import { constants } from 'node:fs';
import type { DigestAlgorithm } from '../../checksums/chunk-hash.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { openDirect } from '../../io/file/open-direct.js';
import { descriptorPath, releaseFiles } from '../../io/file/open-file.js';
import { MemoryMap } from '../../io/memory/memory-map.js';
import { descriptorFlags } from '../../io/process/process-descriptor.js';
import { workerScript } from '../../io/worker-script.js';
import { openThread, prepareThreads, type WorkerThread } from '../../threads/thread-pool.js';
import type { ThreadFailedError, ThreadFailure } from '../../threads/thread-protocol.js';
import { type ChannelBlock, checkBlock, chunkBytesFor } from '../channel-block.js';
import { setBits } from '../page-bits.js';
import type { ChannelAccess, ChannelRequest, PassRequest, ZeroPageDetection } from './channel-protocol.js';
import { type ChannelCounters, ChannelState } from './channel-state.js';

export type { ZeroPageDetection } from './channel-protocol.js';
export type { ChannelCounters } from './channel-state.js';

/** Limits of QEMU's `multifd-channels` are 1 to 255; more threads than this have never helped a disk. */
export const MAXIMUM_FILE_CHANNELS = 16;
const DEFAULT_IO_SIZE = 4 * 1024 ** 2;
const DEFAULT_BRIDGE = 32 * 1024;
const DEFAULT_IO_DEPTH = 4;

export interface FileChannelsOptions {
  /** The image. It must exist; channels never create or truncate it. */
  path: string;
  /**
   * A descriptor of the image, for each channel to open again whatever is at `path` by now; `path` is then only a name for
   * messages. It stays the caller's.
   */
  image?: number;
  /**
   * Descriptors to use instead of opening `path`, one a channel (QEMU's fdset variant). They stay the caller's; `path` is
   * then only a name for messages.
   */
  fds?: readonly number[];
  access: ChannelAccess;
  /** 1 to 16; with `fds` the number of descriptors. */
  count: number;
  /** Open with O_DIRECT; fails with `NO_DIRECT_IO` where that is refused. With `fds`: what they are. */
  direct: boolean;
  blocks: readonly ChannelBlock[];
  /** Saving only; default `multifd`. */
  zeroPageDetection?: ZeroPageDetection;
  /** Bytes that a channel takes and, where all of them are data, writes at once; default 4 MiB. */
  ioSize?: number;
  /**
   * Zero pages between data are written along, and their bits set, in stretches of at most this many bytes and never more of
   * them than of data: one large write instead of many small ones. Default 32 KiB; 0 never writes a zero page.
   */
  bridgeBytes?: number;
  /**
   * Direct reads or writes that each channel has under way while it sees to the next pages; default 4, 0 for none. Only where memory
   * is mapped, on Linux.
   */
  ioDepth?: number;
  /** Buffered writes leave the page cache once they are on the disk; default false. */
  dropBehind?: boolean;
  /** Copy pages through a buffer instead of mapping the memory; default: only where it cannot be mapped. */
  copy?: boolean;
  signal?: AbortSignal;
}

/** Pages of one block: one bit a page, or ranges in bytes as `[start, length]`. */
export type PageSelection = Uint8Array | SharedArrayBuffer | readonly (readonly [number, number])[];

export interface TransferOptions {
  /** What to transfer of each block, in the order of the blocks; absent means all of it. */
  ranges?: readonly PageSelection[];
}

/** What one pass did. */
export type TransferCounts = Omit<ChannelCounters, 'busy'>;

/** Totals of one channel since it was opened. */
export interface ChannelProgress extends TransferCounts {
  channel: number;
  /** Working on a pass at this moment. */
  busy: boolean;
}

const WORKER = workerScript('file-channel-worker', import.meta.url);

/**
 * Has `count` threads loaded that channels will use soon, while there is something else to wait for. Does not wait.
 *
 * @param algorithm what they will hash with
 */
export function prepareFileChannels(count: number, algorithm?: DigestAlgorithm): void {
  const request: ChannelRequest | undefined = algorithm && { kind: 'prepare', algorithm };
  prepareThreads(WORKER, count, request);
}

export class FileChannels implements AsyncDisposable {
  readonly count: number;
  /** Whether the channels' descriptors have O_DIRECT. */
  readonly direct: boolean;
  readonly #path: string;
  readonly #blocks: readonly ChannelBlock[];
  readonly #access: ChannelAccess;
  readonly #detection: ZeroPageDetection;
  readonly #resources: ChannelResources;
  readonly #state: ChannelState;
  readonly #threads: WorkerThread<ChannelRequest>[];
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.abort();
  #aborted = false;
  #failure: MapramError | undefined;
  #pass: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    options: FileChannelsOptions,
    resources: ChannelResources,
    state: ChannelState,
    threads: WorkerThread<ChannelRequest>[],
  ) {
    this.count = threads.length;
    this.direct = options.direct;
    this.#path = options.path;
    this.#blocks = options.blocks;
    this.#access = options.access;
    this.#detection = options.zeroPageDetection ?? 'multifd';
    this.#resources = resources;
    this.#state = state;
    this.#threads = threads;
    this.#signal = options.signal;
    this.#signal?.addEventListener('abort', this.#onAbort);
  }

  /**
   * Opens the image once a channel, maps the memory and takes a thread for each.
   *
   * @throws MapramError `NO_DIRECT_IO`, `IO` for files that cannot be opened or mapped, `FORMAT` for blocks that do not fit,
   * `CANCELLED`.
   */
  static async open(options: FileChannelsOptions): Promise<FileChannels> {
    const { path, fds, access, blocks, direct, signal } = options;
    const count = fds?.length ?? options.count;
    if (!Number.isInteger(count) || count < 1 || count > MAXIMUM_FILE_CHANNELS) {
      throw new MapramError(
        'USAGE',
        `opening file channels for ${path}: ${count} channels asked for; use 1 to ${MAXIMUM_FILE_CHANNELS}`,
      );
    }
    for (const block of blocks) checkBlock(block);
    const chunkBytes = chunkBytesFor(blocks, options.ioSize ?? DEFAULT_IO_SIZE);
    throwIfAborted(signal, path);

    const resources = new ChannelResources();
    const threads = Array.from({ length: count }, () => openThread<ChannelRequest>(WORKER));
    try {
      const state = new ChannelState(count);
      const attached = blocks.map((block) => resources.attach(block, access, options.copy ?? false));
      const descriptors = fds
        ? fds.map((fd) => checkDescriptor(fd, path, access, direct))
        : Array.from({ length: count }, () => resources.openImage(options));
      // All must have answered before what they use is closed.
      const results = await Promise.allSettled(
        descriptors.map((fd, channel) =>
          threads[channel]?.request({
            kind: 'setup',
            setup: {
              channel,
              fd,
              path,
              access,
              direct,
              chunkBytes,
              bridgeBytes: options.bridgeBytes ?? DEFAULT_BRIDGE,
              ioDepth: options.ioDepth ?? DEFAULT_IO_DEPTH,
              dropBehind: options.dropBehind ?? false,
              state: state.buffer,
              channels: count,
              blocks: attached,
            },
          }),
        ),
      );
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      throwIfAborted(signal, path);
      return new FileChannels(options, resources, state, threads);
    } catch (error) {
      await Promise.all(threads.map((thread) => thread.release()));
      resources.release();
      throw error instanceof MapramError
        ? error
        : channelError(path, access, 0, { message: errorReason(error) });
    }
  }

  /**
   * One pass: moves every selected page, or every page. May be called again and again; a page that became zero since it was
   * written loses its bit and its slot is punched.
   *
   * @returns what this pass did.
   * @throws MapramError of the first channel that failed (`NO_SPACE`, `IO`, `FORMAT` for an image that ends too early), or
   * `CANCELLED`. All channels have stopped by then, and no further pass is possible.
   */
  async transfer(options: TransferOptions = {}): Promise<TransferCounts> {
    if (this.#closing !== undefined) throw this.#refusal('they are closed');
    if (this.#pass !== undefined) throw this.#refusal('a transfer is running');
    if (this.#failure !== undefined) throw this.#failure;
    this.#throwIfStopped();
    const selected = options.ranges && this.#selectionBits(options.ranges);
    const before = this.#state.totals();
    const pass = this.#run(selected);
    this.#pass = pass;
    try {
      await pass;
    } finally {
      this.#pass = undefined;
    }
    this.#throwIfStopped();
    const after = this.#state.totals();
    return {
      bytes: after.bytes - before.bytes,
      normalPages: after.normalPages - before.normalPages,
      duplicatePages: after.duplicatePages - before.duplicatePages,
      punchedPages: after.punchedPages - before.punchedPages,
    };
  }

  /**
   * Behind the last pass of a save: gives the reserved space of slots without a page back, in a thread, and closes the channels.
   *
   * @throws as `transfer` does
   */
  async trim(): Promise<void> {
    if (this.#closing !== undefined) throw this.#refusal('they are closed');
    if (this.#pass !== undefined) throw this.#refusal('a transfer is running');
    this.#throwIfStopped();
    for (const thread of this.#threads.slice(1)) void thread.release();
    this.#pass = this.#broadcast({ kind: 'trim' }, this.#threads.slice(0, 1));
    try {
      await this.#pass;
    } finally {
      this.#pass = undefined;
      await this.close();
    }
    this.#throwIfStopped();
  }

  /** Bytes a second that all channels may write together; 0, as at first, for as many as the disk takes. May be set at any time. */
  get maxBandwidth(): number {
    return this.#state.bandwidth.limit;
  }

  set maxBandwidth(bytesPerSecond: number) {
    this.#state.bandwidth.limit = bytesPerSecond;
  }

  /** What each channel has done since it was opened; may be asked at any time. */
  progress(): ChannelProgress[] {
    return this.#threads.map((_, channel) => {
      const { busy, ...counts } = this.#state.counters(channel);
      return { channel, ...counts, busy: busy > 0 };
    });
  }

  /** Stops all channels after their present call. A running transfer rejects with `CANCELLED`. */
  abort(): void {
    this.#aborted = true;
    this.#state.stopped = true;
  }

  /** Stops what is running and gives back threads, descriptors and mappings. Never throws. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    if (this.#pass !== undefined) {
      this.abort();
      await this.#pass.catch(() => {});
    }
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await Promise.all(this.#threads.map((thread) => thread.release()));
    this.#resources.release();
  }

  async #run(selected: Uint8Array[] | undefined): Promise<void> {
    const selection = defined({ selected });
    if (this.#access === 'digest') {
      await this.#broadcast({ kind: 'digest' }, this.#threads);
    } else if (this.#access === 'read') {
      await this.#broadcast({ kind: 'read', ...selection }, this.#threads);
    } else if (this.#detection === 'legacy') {
      const found = this.#blocks.map(({ bitmap }) => new SharedArrayBuffer(bitmap.byteLength));
      await this.#broadcast({ kind: 'scan', found, ...selection }, this.#threads.slice(0, 1));
      if (this.#state.stopped) return;
      await this.#broadcast({ kind: 'write', detectZeroPages: true, found, ...selection }, this.#threads);
    } else {
      const detectZeroPages = this.#detection === 'multifd';
      await this.#broadcast({ kind: 'write', detectZeroPages, ...selection }, this.#threads);
    }
  }

  /** Runs one request on these threads until all of them have answered; the first failure counts. */
  async #broadcast(request: PassRequest, threads: WorkerThread<ChannelRequest>[]): Promise<void> {
    this.#state.rewind();
    const results = await Promise.allSettled(
      threads.map(async (thread, channel) => {
        try {
          await thread.request(request);
        } catch (error) {
          this.#state.stopped = true;
          this.#failure ??= channelError(
            this.#path,
            this.#access,
            channel,
            (error as ThreadFailedError).failure,
          );
        }
      }),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Selections as bitmaps in shared memory, so that every worker sees the same ones. */
  #selectionBits(ranges: readonly PageSelection[]): Uint8Array[] {
    if (ranges.length !== this.#blocks.length) {
      throw this.#refusal(`ranges for ${ranges.length} blocks given, there are ${this.#blocks.length}`);
    }
    return this.#blocks.map(({ bitmap, pageSize, usedLength }, index) => {
      const given = ranges[index] ?? [];
      if (given instanceof SharedArrayBuffer) return new Uint8Array(given);
      const bits = new Uint8Array(new SharedArrayBuffer(bitmap.byteLength));
      if (given instanceof Uint8Array) {
        bits.set(given.subarray(0, bits.length));
        return bits;
      }
      for (const [start, size] of given) {
        const end = Math.min(start + size, usedLength);
        setBits(bits, Math.floor(start / pageSize), Math.ceil(end / pageSize));
      }
      return bits;
    });
  }

  #throwIfStopped(): void {
    if (this.#aborted || this.#signal?.aborted) throw cancelled(this.#path, this.#signal);
  }

  #refusal(problem: string): MapramError {
    return new MapramError('USAGE', `transferring pages through the channels of ${this.#path}: ${problem}`, {
      path: this.#path,
    });
  }
}

/** Descriptors and mappings that have to be given back, in the main thread. */
class ChannelResources {
  readonly #fds: number[] = [];
  readonly #maps: MemoryMap[] = [];

  openImage({ path, image, access, direct }: FileChannelsOptions): number {
    const { fd } = openDirect(image === undefined ? path : descriptorPath(image), {
      name: path,
      access: access === 'write' ? 'write' : 'read',
      mode: direct ? 'on' : 'off',
    });
    this.#fds.push(fd);
    return fd;
  }

  /** The block with its memory mapped, where it can be. */
  attach(block: ChannelBlock, access: ChannelAccess, copy: boolean): ChannelBlock {
    const { memory, usedLength: length, idstr: path } = block;
    if (memory === undefined || copy || length === 0) return block;
    const { fd, offset } = memory;
    try {
      const map = MemoryMap.open({ fd, offset, length, writable: access === 'read', path });
      this.#maps.push(map);
      return { ...block, memory: { fd, offset, map: map.address } };
    } catch (error) {
      const { cause } = error as MapramError;
      if ((cause as NodeJS.ErrnoException | undefined)?.code === 'ENODEV') return block;
      throw error;
    }
  }

  release(): void {
    for (const map of this.#maps.splice(0)) map.close();
    // Whatever was written is judged by the sync that follows.
    releaseFiles(this.#fds.splice(0));
  }
}

/** A descriptor from outside must be what the channels take it for, as QEMU demands of its fdsets. */
function checkDescriptor(fd: number, path: string, access: ChannelAccess, direct: boolean): number {
  const flags = descriptorFlags(fd);
  const mode = flags & (constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR);
  const wanted = access === 'write' ? constants.O_WRONLY : constants.O_RDONLY;
  const problem =
    mode !== wanted && mode !== constants.O_RDWR
      ? `is not open for ${access === 'write' ? 'writing' : 'reading'}`
      : ((flags & O_DIRECT) !== 0) !== direct
        ? `${direct ? 'has no' : 'has'} O_DIRECT`
        : undefined;
  if (problem === undefined) return fd;
  throw new MapramError('IO', `opening file channels for ${path}: file descriptor ${fd} ${problem}`, {
    path,
  });
}

function throwIfAborted(signal: AbortSignal | undefined, path: string): void {
  if (signal?.aborted) throw cancelled(path, signal);
}

function cancelled(path: string, signal: AbortSignal | undefined): MapramError {
  return new MapramError('CANCELLED', `transferring pages of ${path}: cancelled`, {
    path,
    cause: signal?.reason,
  });
}

function channelError(
  path: string,
  access: ChannelAccess,
  channel: number,
  failure: ThreadFailure,
): MapramError {
  const { code, errno, offset, truncated } = failure;
  if (code !== undefined)
    return new MapramError(code, failure.message, { path: failure.path ?? path, cause: failure });
  const message = truncated ? `${failure.message}, inside a page area` : failure.message;
  const doing = access === 'write' ? `writing pages to ${path}` : `reading pages of ${path}`;
  const noSpace = errno === 'ENOSPC' || errno === 'EDQUOT';
  const advice = noSpace
    ? '; free some space there or choose another file system'
    : truncated
      ? '; the file is incomplete, save it again'
      : '';
  return new MapramError(
    noSpace ? 'NO_SPACE' : truncated ? 'FORMAT' : 'IO',
    `${doing} on channel ${channel}${truncated || offset === undefined ? '' : ` at offset ${offset}`}: ${message}${advice}`,
    { path, ...defined({ offset }), cause: failure },
  );
}
