/**
 * A migration stream as the output of a migration: plain, or with multifd channels. A thread a connection takes the
 * pages from the guest's memory, or from a mapped-ram file, and writes; none passes through the main thread.
 *
 *     main channel       header, configuration, RAM START │ PART, pages, marks │ … │ END, devices, vmdescription
 *     multifd channel    initial packet │ [SYNC] packets, SYNC │ …
 */

import { ChannelState } from '../../channels/file/channel-state.js';
import type { PageSelection } from '../../channels/file/file-channels.js';
import { setBits } from '../../channels/page-bits.js';
import type { PageOrigin } from '../../channels/page-source.js';
import type { StreamCompression } from '../../channels/socket/payload-decoder.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { MemoryMap } from '../../io/memory/memory-map.js';
import { systemErrorText } from '../../io/system-error-text.js';
import { workerScript } from '../../io/worker-script.js';
import { PageBitmap } from '../../mapped-ram/bitmap.js';
import { StreamFrame, type SyncMarks } from '../../stream/stream-frame.js';
import { concatenate } from '../../stream/stream-writer.js';
import { openThread, type WorkerThread } from '../../threads/thread-pool.js';
import { failureOf, ThreadFailedError } from '../../threads/thread-protocol.js';
import type { StreamConnections, StreamEndpoint } from '../receiver/stream-connections.js';
import type { SourceDevices, SourceSetup } from '../sources/migration-source.js';
import type { MigrationOutput, OutputBlock, OutputCounters } from './migration-output.js';
import type { StreamOutputRequest, ZeroPageWay } from './stream-output-protocol.js';

export interface StreamOutputOptions {
  endpoint: StreamEndpoint;
  /** Multifd channels; 0 for a plain stream. */
  channels: number;
  /** Where channels and main channel wait for each other; `none` without channels. */
  marks: SyncMarks;
  zeroPages: ZeroPageWay;
  compression: { method: StreamCompression; level: number };
  /** Whether the destination knows SWITCHOVER_START. */
  switchoverStart: boolean;
  /** Where pages come from, if not from the memory of the source's blocks. */
  image?: Extract<PageOrigin, { kind: 'image' }>;
  /** 16 raw bytes, of the destination, which multifd channels give; zeros by default. */
  uuid?: Uint8Array;
  /** What a failure to write the beginning is called, where that has a name of its own. */
  startFailure?: string;
}

const WORKER = workerScript('stream-output-worker', import.meta.url);

/** Marks and END records are counted as RAM by QEMU. */
const MARK_BYTES = 8;
const NO_UUID = new Uint8Array(16);

export class StreamOutput implements MigrationOutput {
  readonly #options: StreamOutputOptions;
  readonly #state: ChannelState;
  readonly #threads: WorkerThread<StreamOutputRequest>[] = [];
  readonly #maps: MemoryMap[] = [];
  #connections: StreamConnections | undefined;
  #setup: SourceSetup | undefined;
  #frame: StreamFrame | undefined;
  #written = 0;
  #markBytes = 0;
  #partOpen = false;

  constructor(options: StreamOutputOptions) {
    this.#options = options;
    this.#state = new ChannelState(options.channels + 1);
  }

  get name(): string {
    return this.#options.endpoint.name;
  }

  get pageSize(): number {
    return this.#setup?.pageSize ?? 4096;
  }

  get blocks(): readonly OutputBlock[] {
    const { blocks = [] } = this.#setup ?? {};
    return blocks.map(({ idstr, usedLength }) => ({
      idstr,
      usedLength,
      pageCount: usedLength / this.pageSize,
    }));
  }

  get maxBandwidth(): number {
    return this.#state.bandwidth.limit;
  }

  set maxBandwidth(bytesPerSecond: number) {
    this.#state.bandwidth.limit = bytesPerSecond;
  }

  async open(setup: SourceSetup, signal: AbortSignal): Promise<void> {
    const { endpoint, channels, zeroPages, compression, marks, image, uuid = NO_UUID } = this.#options;
    this.#setup = setup;
    this.#frame = new StreamFrame(setup, marks);
    const connections = await endpoint.connect(signal);
    this.#connections = connections;
    const pages = image ?? this.#mapMemory(setup);
    this.#threads.push(...connections.fds.map(() => openThread<StreamOutputRequest>(WORKER)));
    await this.#all((connection) => ({
      kind: 'setup',
      setup: {
        connection,
        fd: connections.fds[connection] as number,
        pages,
        pageSize: setup.pageSize,
        state: this.#state.buffer,
        connections: channels + 1,
        zeroPages,
        compression,
        uuid,
      },
    }));
  }

  async writeStart(): Promise<void> {
    const { startFailure } = this.#options;
    try {
      await this.#write((this.#frame as StreamFrame).start());
    } catch (cause) {
      if (startFailure === undefined || this.#state.stopped) throw cause;
      throw new MapramError('MIGRATION', startFailure, { cause });
    }
    await this.#synchronize();
  }

  async transfer(ranges?: readonly PageSelection[]): Promise<void> {
    const { channels, zeroPages, image } = this.#options;
    await this.#write((this.#frame as StreamFrame).partStart());
    this.#partOpen = true;
    this.#state.rewind();
    const { blocks } = this;
    const selected = ranges?.map((range, index) => sharedBits(range, blocks[index] as OutputBlock));
    const mainHasPages = channels === 0 || zeroPages === 'main';
    const claims =
      channels > 0 && mainHasPages && image === undefined
        ? blocks.map(({ pageCount }) => PageBitmap.shared(pageCount).buffer as SharedArrayBuffer)
        : undefined;
    const request: StreamOutputRequest = {
      kind: 'pages',
      ...defined({ selected, claims }),
    };
    await this.#all((connection) => (connection > 0 || mainHasPages ? request : undefined));
  }

  async writePart(): Promise<void> {
    const frame = this.#frame as StreamFrame;
    const end = this.#partOpen ? frame.partEnd() : concatenate([frame.partStart(), frame.partEnd()]);
    this.#partOpen = false;
    this.#markBytes += MARK_BYTES;
    // Channels go first: a receiver that holds the main channel at its mark waits for them.
    await this.#synchronize();
    await this.#write(end);
  }

  async writeDevices(devices: SourceDevices): Promise<void> {
    const frame = this.#frame as StreamFrame;
    const { marks, switchoverStart } = this.#options;
    if (marks === 'sections') await this.#synchronize();
    await this.#write(frame.ramEnd(devices.switchoverStart && switchoverStart));
    await this.#write(frame.devices(devices));
    await this.#releaseThreads();
    try {
      await this.#connections?.finish();
    } catch (error) {
      throw error instanceof MapramError ? error : this.#failure(error);
    }
  }

  counters(): OutputCounters {
    const { channels } = this.#options;
    const [main, ...others] = Array.from({ length: channels + 1 }, (_, index) => this.#state.counters(index));
    const { bytes = 0, normalPages = 0, duplicatePages = 0 } = main ?? {};
    const records = bytes - normalPages * this.pageSize;
    const sum = (pick: (counts: (typeof others)[number]) => number) =>
      others.reduce((total, counts) => total + pick(counts), 0);
    return {
      normalPages: normalPages + sum((counts) => counts.normalPages),
      duplicatePages: duplicatePages + sum((counts) => counts.duplicatePages),
      ...defined({ packetBytes: channels > 0 ? sum((counts) => counts.bytes) : undefined }),
      streamBytes: this.#written + records,
      recordBytes: records + this.#markBytes,
      channels: others.map((counts, id) => ({ id, bytes: counts.bytes })),
    };
  }

  abort(): void {
    this.#state.stopped = true;
    this.#connections?.abort();
  }

  async close(): Promise<void> {
    this.#state.stopped = true;
    await this.#releaseThreads();
    for (const map of this.#maps.splice(0)) map.close();
    await this.#connections?.close();
    await this.#options.endpoint.dispose();
  }

  #mapMemory({ blocks, pageSize }: SourceSetup): PageOrigin {
    const mapped = blocks.flatMap(({ idstr, usedLength, memory }) => {
      if (!memory) return [];
      const { fd, offset } = memory;
      const map = MemoryMap.open({ fd, offset, length: usedLength, path: idstr });
      this.#maps.push(map);
      return [{ idstr, usedLength, pageSize, memory: { fd, offset, map: map.address } }];
    });
    return { kind: 'memory', blocks: mapped, detectZeros: this.#options.zeroPages !== 'pages' };
  }

  async #releaseThreads(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map((thread) => thread.release()));
  }

  async #write(bytes: Uint8Array): Promise<void> {
    await this.#all((connection) => (connection === 0 ? { kind: 'write', bytes } : undefined));
    this.#written += bytes.length;
  }

  async #synchronize(): Promise<void> {
    if (this.#options.marks === 'none') return;
    await this.#all((connection) => (connection > 0 ? { kind: 'synchronize' } : undefined));
  }

  /** Runs a request in each thread that has one; the first failure stops the others and counts. */
  async #all(requestFor: (connection: number) => StreamOutputRequest | undefined): Promise<void> {
    let failure: MapramError | undefined;
    await Promise.all(
      this.#threads.map(async (thread, connection) => {
        const request = requestFor(connection);
        if (request === undefined) return;
        try {
          await thread.request(request);
        } catch (error) {
          failure ??= this.#failure(error);
          this.abort();
        }
      }),
    );
    if (failure) throw failure;
  }

  /** In QEMU's words where it is the system that refused. */
  #failure(error: unknown): MapramError {
    const { code, errno, message, path, offset } =
      error instanceof ThreadFailedError ? error.failure : failureOf(error);
    // Something is wrong with the pages.
    if (code !== undefined && code !== 'CANCELLED')
      return new MapramError(code, message, defined({ path, offset }));
    const text = systemErrorText({ code: errno }) ?? message;
    const what = this.#connections?.kind ?? 'socket';
    return new MapramError('MIGRATION', `Unable to write to ${what}: ${text}`, { cause: error });
  }
}

/** A pass's pages in memory that all threads see. */
function sharedBits(range: PageSelection, { pageCount, usedLength }: OutputBlock): Uint8Array {
  if (range instanceof SharedArrayBuffer) return new Uint8Array(range);
  const bits = new Uint8Array(new SharedArrayBuffer(Math.ceil(pageCount / 8)));
  if (range instanceof Uint8Array) bits.set(range.subarray(0, bits.length));
  else {
    const pageSize = usedLength / pageCount;
    for (const [start, size] of range) {
      setBits(bits, Math.floor(start / pageSize), Math.min(pageCount, Math.ceil((start + size) / pageSize)));
    }
  }
  return bits;
}
