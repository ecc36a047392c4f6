/**
 * A migration out of a VM into a mapped-ram file: the states of QEMU, the passes over RAM, the order of writes.
 *
 *     setup            connect to the source, lay the file out, open the channels
 *     active           stream header and RAM START on the main channel; pages through the channels, pass after pass
 *                      while the guest runs (dirty log) or once after it was stopped
 *     [pre-switchover] guest stopped, all but the device state done; waits for `continue()`
 *     device           last dirty pages, RAM END and bitmaps, device sections, vmdescription, sync
 *     completed
 */
import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { errorReason, MapramError } from '../errors.js';
import { syncFileData } from '../io/file-sync.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import { ImageWriter, type ImageWriterBlock } from '../mapped-ram/image-writer.js';
import type { ChannelThreads } from '../multifd/channel-threads.js';
import type { DigestAlgorithm } from '../multifd/chunk-hash.js';
import { digestChunkBytes } from '../multifd/digest-chunk-bytes.js';
import { DigestTable } from '../multifd/digest-table.js';
import { FileChannels } from '../multifd/file-channels.js';
import type { PlacedBlock } from '../multifd/page-placer.js';
import { coverSlots, noPieces, releaseUnusedSlots, reserveSlots } from '../multifd/slot-allocation.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import { isMigrationRunning, type MigrationStatus } from '../options/migration-status.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import { channelCount } from './channel-count.js';
import type { MigrationFile } from './migration-file.js';
import { MigrationState } from './migration-state.js';
import type { OutgoingSource, SourceDevices, SourceSetup } from './source.js';

export interface OutgoingOptions {
  source: OutgoingSource;
  file: MigrationFile;
  parameters: MigrationParameters;
  capabilities: MigrationCapabilities;
  /** How often `progress` is emitted, in ms; 200 by default. */
  progressMs?: number;
  /** Whether the file is on the disk when the migration completes; true by default. */
  sync?: boolean;
  /** Compute digests of the pages while they are written. */
  checksums?: DigestAlgorithm;
  /** Called when the guest is no longer needed: memory and device state are taken, though not all written. */
  onStateTaken?: () => Promise<void>;
  /** Threads for the channels, started earlier; by default they are started when needed. */
  threads?: ChannelThreads;
  /** What a channel writes at once, see `FileChannelsOptions.ioSize`. */
  ioSize?: number;
  /** See `FileChannelsOptions.dropBehind`. */
  dropBehind?: boolean;
  /** Called when the file is complete, before the migration is. A throw fails the migration. */
  beforeCompletion?: (result: OutgoingResult, signal: AbortSignal) => Promise<void>;
}

export interface OutgoingEvents {
  status: [MigrationStatus];
  /** A pass over RAM begins, counted from 1: QEMU's MIGRATION_PASS. */
  pass: [number];
  progress: [ProgressEvent];
}

/** Page counters in the meaning of `query-migrate`'s `ram`. */
export interface RamCounters {
  totalBytes: number;
  /** Pages written, re-sent ones counted again. */
  normalPages: number;
  /** Pages found zero. */
  duplicatePages: number;
  normalBytes: number;
  remainingBytes: number;
  pageSize: number;
  passes: number;
  /** All of the stream but the pages. */
  streamBytes: number;
  /** Of `streamBytes`, those that QEMU counts as RAM: bitmaps and marks between passes. */
  recordBytes: number;
  /** What was written before the guest was stopped for the last pass; nothing of a guest that did not run. */
  beforeStop: { normalBytes: number; recordBytes: number };
}

export interface OutgoingResult {
  ram: RamCounters;
  /** Length of the stream and pages: the size of the file. */
  fileBytes: number;
  channels: number;
  /** Whether the page channels really used O_DIRECT. */
  direct: boolean;
  setupTimeMs: number;
  totalTimeMs: number;
  /** From the stop of the guest until its device state is taken and, where `onStateTaken` sees to that, it runs again. */
  downtimeMs: number;
  /** Where asked for: by idstr, the digests of all chunks that could be digested while their pages were written. */
  checksums?: { algorithm: DigestAlgorithm; chunkBytes: number; digests: Map<string, DigestTable> };
}

/** Passes over a guest that dirties faster than the channels write: after these it is stopped. */
const MAX_LIVE_PASSES = 50;

export class OutgoingMigration extends EventEmitter<OutgoingEvents> {
  readonly #options: OutgoingOptions;
  #parameters: MigrationParameters;
  readonly #state = new MigrationState((status) => this.emit('status', status));
  readonly #abort = new AbortController();
  readonly #meter = new ProgressMeter();
  readonly #startedAt = performance.now();
  #phase = 'connecting';
  #writer: ImageWriter | undefined;
  #channels: FileChannels | undefined;
  /** Blocks that the channels have mapped, in the order of their regions. */
  readonly #mapped: number[] = [];
  /** By the index of the block. */
  readonly #digests = new Map<number, DigestTable>();
  /** Where pages go, whoever brings them. */
  #places: PlacedBlock[] = [];
  /** Those of them that the engine copies. */
  #copied: number[] = [];
  #passes = 0;
  #remainingBytes = 0;
  #setupTimeMs = 0;
  #beforeStop: RamCounters['beforeStop'] | undefined;
  #stoppedAt: number | undefined;
  #downtimeMs = 0;
  #totalTimeMs = 0;
  #bytesPerMs = 0;
  #bandwidthIsLimited = true;
  #error: unknown;
  #continue: (() => void) | undefined;

  constructor(options: OutgoingOptions) {
    super();
    this.#options = options;
    this.#parameters = options.parameters;
  }

  get status(): MigrationStatus {
    return this.#state.status;
  }

  /** Why it failed. */
  get error(): unknown {
    return this.#error;
  }

  /**
   * Runs the migration to its end. Call once.
   *
   * @throws MapramError the reason when it fails, `CANCELLED` after `cancel()`; the guest is then as it was before
   */
  async run(): Promise<OutgoingResult> {
    const { source, progressMs = 200 } = this.#options;
    const ticker = setInterval(() => this.emit('progress', this.progress()), progressMs);
    try {
      this.#state.moveTo('setup');
      const result = await this.#migrate();
      await this.#options.beforeCompletion?.(result, this.#abort.signal);
      this.#abort.signal.throwIfAborted();
      this.#state.moveTo('completed');
      this.#totalTimeMs = result.totalTimeMs;
      return result;
    } catch (error) {
      throw await this.#giveUp(error);
    } finally {
      clearInterval(ticker);
      this.emit('progress', this.progress());
      await this.#channels?.close();
      await source.dispose();
    }
  }

  /** Cancels: the guest goes on as before, the file stays incomplete. Does nothing once the migration has ended. */
  cancel(): void {
    if (!isMigrationRunning(this.status) || this.status === 'cancelling') return;
    this.#state.moveTo('cancelling');
    this.#abort.abort();
    this.#channels?.abort();
  }

  /** Takes over parameters that may change on the way: `max-bandwidth`, `downtime-limit` and `avail-switchover-bandwidth`. */
  async changeParameters(parameters: MigrationParameters): Promise<void> {
    this.#parameters = parameters;
    if (this.#channels && this.#bandwidthIsLimited) this.#channels.maxBandwidth = this.#maxBandwidth();
    await this.#options.source.changeParameters?.(parameters);
  }

  /** Ends the pause of `pause-before-switchover`. Returns false in any other state. */
  continue(): boolean {
    if (this.status !== 'pre-switchover' || !this.#continue) return false;
    this.#continue();
    return true;
  }

  progress(): ProgressEvent {
    const { totalBytes, normalPages, duplicatePages, pageSize } = this.ram();
    const channels = [
      ...(this.#channels?.progress().map(({ channel, bytes }) => ({ id: channel, bytes })) ?? []),
      ...(this.#options.source.placed?.().channels ?? []),
    ];
    return this.#meter.report(this.#phase, {
      bytes: Math.min(
        (normalPages + duplicatePages) * pageSize,
        this.#passes > 1 ? Number.POSITIVE_INFINITY : totalBytes,
      ),
      totalBytes,
      pages: normalPages + duplicatePages,
      channels,
    });
  }

  ram(): RamCounters {
    const { source } = this.#options;
    const channels = this.#channels?.progress() ?? [];
    const placed = source.placed?.();
    const sum = (pick: (channel: (typeof channels)[number]) => number) =>
      channels.reduce((total, channel) => total + pick(channel), 0);
    const pageSize = this.#writer?.pageSize ?? 4096;
    const { streamBytes = 0, ramBytes: recordBytes = 0 } = this.#writer ?? {};
    const beforeStop = this.#beforeStop ?? this.#copiedByRunningGuest();
    const normalPages = sum((channel) => channel.normalPages) + (placed?.normalPages ?? 0);
    return {
      totalBytes: this.#writer?.blocks.reduce((total, block) => total + block.usedLength, 0) ?? 0,
      normalPages,
      duplicatePages: sum((channel) => channel.duplicatePages) + (placed?.duplicatePages ?? 0),
      normalBytes: normalPages * pageSize,
      remainingBytes: this.#remainingBytes,
      pageSize,
      passes: this.#passes,
      streamBytes,
      recordBytes,
      beforeStop: {
        ...beforeStop,
        normalBytes: beforeStop.normalBytes + (placed?.bytesBeforeStop ?? 0),
      },
    };
  }

  /** What the engine has copied so far, if that is of a guest that runs. */
  #copiedByRunningGuest(): RamCounters['beforeStop'] {
    if (!this.#options.source.guestRuns) return { normalBytes: 0, recordBytes: 0 };
    const pages = this.#channels?.progress().reduce((total, { normalPages }) => total + normalPages, 0) ?? 0;
    const { pageSize = 0, ramBytes = 0 } = this.#writer ?? {};
    return { normalBytes: pages * pageSize, recordBytes: ramBytes };
  }

  /** Times in ms as `query-migrate` gives them; those of phases to come are absent. */
  times(): { setupMs: number; totalMs: number; downtimeMs?: number; expectedDowntimeMs: number } {
    const ended = !isMigrationRunning(this.status);
    const times = {
      setupMs: this.#setupTimeMs,
      totalMs: ended ? this.#totalTimeMs : Math.round(performance.now() - this.#startedAt),
      expectedDowntimeMs:
        this.#bytesPerMs > 0
          ? Math.round(this.#remainingBytes / this.#bytesPerMs)
          : Number(this.#parameters['downtime-limit']),
    };
    return ended ? { ...times, downtimeMs: this.#downtimeMs } : times;
  }

  async #migrate(): Promise<OutgoingResult> {
    const { source, file, capabilities } = this.#options;
    const { signal } = this.#abort;
    const setup = await source.setup(signal);
    const writer = await this.#layOut(setup);
    await this.#openChannels(setup, writer);
    this.#setupTimeMs = Math.round(performance.now() - this.#startedAt);
    signal.throwIfAborted();

    this.#remainingBytes = this.ram().totalBytes;
    // QEMU counts the first synchronisation of the dirty log before it is active.
    this.#beginPass();
    this.#state.moveTo('active');
    await writer.writeStart();
    if (source.dirtyLog) await this.#copyWhileRunning(writer);
    else await this.#copyStopped(writer);
    signal.throwIfAborted();

    if (capabilities['pause-before-switchover']) await this.#pause(signal);
    this.#state.moveTo('device');
    if (source.dirtyLog) await this.#copyDirty(writer);
    this.#phase = 'device state';
    const devices = await source.devices(signal);
    signal.throwIfAborted();
    await this.#options.onStateTaken?.();
    this.#downtimeMs = Math.round(
      source.downtimeMs?.() ?? performance.now() - (this.#stoppedAt ?? performance.now()),
    );
    await releaseUnusedSlots(this.#options.file.mainFd, this.#places);
    const fileBytes = await this.#writeDevices(writer, devices);
    return {
      ram: { ...this.ram(), remainingBytes: 0 },
      fileBytes,
      channels: this.#channels?.count ?? (source.placed?.().channels.length || 1),
      direct: file.direct,
      setupTimeMs: this.#setupTimeMs,
      totalTimeMs: Math.round(performance.now() - this.#startedAt),
      downtimeMs: this.#downtimeMs,
      ...this.#checksums(writer),
    };
  }

  #checksums(writer: ImageWriter): Pick<OutgoingResult, 'checksums'> {
    const { checksums: algorithm } = this.#options;
    if (algorithm === undefined) return {};
    const digests = new Map(
      [...this.#digests].map(([index, table]) => [(writer.blocks[index] as ImageWriterBlock).idstr, table]),
    );
    return { checksums: { algorithm, chunkBytes: this.#digestChunkBytes(algorithm), digests } };
  }

  #digestChunkBytes(algorithm: DigestAlgorithm): number {
    return digestChunkBytes(this.ram().totalBytes, algorithm);
  }

  async #layOut(setup: SourceSetup): Promise<ImageWriter> {
    const { file } = this.#options;
    const { machine, targetPageBits, uuid, earlySections } = setup;
    this.#writer = await ImageWriter.create({
      fd: file.mainFd,
      path: file.name,
      offset: file.offset,
      configuration: {
        machine,
        capabilities: ['mapped-ram'],
        ...(targetPageBits === undefined ? {} : { targetPageBits }),
        ...(uuid === undefined ? {} : { uuid }),
      },
      blocks: setup.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      pageSize: setup.pageSize,
      ramSectionId: setup.ramSectionId,
      ...(earlySections === undefined || earlySections.length === 0 ? {} : { earlySections }),
    });
    return this.#writer;
  }

  /** A source that places all of its pages itself needs no channels. */
  async #openChannels(setup: SourceSetup, writer: ImageWriter): Promise<void> {
    const { source, file, parameters, capabilities, checksums } = this.#options;
    if (checksums) this.#makeDigestTables(writer, checksums);
    this.#places = writer.blocks.map(({ idstr, usedLength, pageSize, pagesOffset, bitmap }, index) => {
      const digests = this.#digests.get(index)?.shape;
      return {
        idstr,
        usedLength,
        pageSize,
        pagesOffset,
        bitmap: bitmap.bytes.buffer as SharedArrayBuffer,
        allocated: noPieces(usedLength),
        ...(digests ? { digests } : {}),
      };
    });
    coverSlots(file.mainFd, this.#places);
    const regions = setup.blocks.flatMap(({ memory }, index) => {
      const block = writer.blocks[index] as ImageWriterBlock;
      if (!memory) return [];
      this.#mapped.push(index);
      const digests = this.#digests.get(index);
      return [
        {
          fd: memory.fd,
          fdOffset: memory.offset,
          length: block.usedLength,
          pagesOffset: block.pagesOffset,
          pageSize: writer.pageSize,
          bitmap: block.bitmap.bytes.buffer as SharedArrayBuffer,
          allocated: this.#places[index]?.allocated as SharedArrayBuffer,
          ...(digests ? { digests } : {}),
        },
      ];
    });
    if (regions.length > 0) {
      this.#channels = await FileChannels.open({
        ...file.channelTarget(channelCount(parameters, capabilities)),
        access: 'write',
        direct: file.direct,
        regions,
        zeroPageDetection: parameters['zero-page-detection'],
        ...(this.#options.threads ? { threads: this.#options.threads } : {}),
        dropBehind: this.#options.dropBehind ?? false,
        ...(this.#options.ioSize === undefined ? {} : { ioSize: this.#options.ioSize }),
        signal: this.#abort.signal,
      });
      this.#limitBandwidth(true);
      if (file.direct) await this.#reserveSpace(setup);
    }
    source.place?.({ path: file.channelPath, direct: file.direct, blocks: this.#places });
  }

  async #reserveSpace(setup: SourceSetup): Promise<void> {
    for (const [index, { memory }] of setup.blocks.entries()) {
      const place = this.#places[index];
      if (memory && place) await reserveSlots(this.#options.file.mainFd, memory, place);
    }
  }

  #makeDigestTables({ blocks }: ImageWriter, algorithm: DigestAlgorithm): void {
    const chunkBytes = this.#digestChunkBytes(algorithm);
    for (const [index, { usedLength }] of blocks.entries()) {
      this.#digests.set(index, DigestTable.create({ algorithm, chunkBytes, length: usedLength }));
    }
  }

  /** A guest without dirty log: it is stopped first, and one pass is all. */
  async #copyStopped(writer: ImageWriter): Promise<void> {
    await this.#stopGuest();
    await this.#channels?.transfer({ ranges: this.#wholeBlocks() });
    await writer.writePart();
    this.#remainingBytes = 0;
  }

  /** Passes until what is left can be copied within `downtime-limit`, or copying no longer gains on the guest. */
  async #copyWhileRunning(writer: ImageWriter): Promise<void> {
    const { source } = this.#options;
    source.dirtyLog?.start();
    let begun = performance.now();
    let bytes = this.ram().totalBytes;
    await this.#channels?.transfer({});
    await writer.writePart();
    while (this.#passes < MAX_LIVE_PASSES) {
      this.#abort.signal.throwIfAborted();
      this.#bytesPerMs = this.#switchoverBytesPerMs() ?? bytes / Math.max(1, performance.now() - begun);
      const dirty = this.#fetchDirty();
      this.#remainingBytes = dirty.pages * writer.pageSize;
      if (this.#remainingBytes <= this.#bytesPerMs * Number(this.#parameters['downtime-limit'])) {
        this.#pending = dirty;
        break;
      }
      this.#beginPass();
      begun = performance.now();
      bytes = this.#remainingBytes;
      await this.#channels?.transfer({ ranges: dirty.bitmaps });
      await writer.writePart();
    }
    await this.#stopGuest();
  }

  /** Dirty pages that were fetched from the log but not copied yet. */
  #pending: { bitmaps: Uint8Array[]; pages: number } | undefined;

  async #copyDirty(writer: ImageWriter): Promise<void> {
    const dirty = this.#fetchDirty(this.#pending?.bitmaps);
    this.#beginPass();
    this.#limitBandwidth(false);
    await this.#channels?.transfer({ ranges: dirty.bitmaps });
    await writer.writePart();
    this.#options.source.dirtyLog?.stop();
    this.#remainingBytes = 0;
  }

  #fetchDirty(into?: Uint8Array[]): { bitmaps: Uint8Array[]; pages: number } {
    const log = this.#options.source.dirtyLog;
    const blocks = this.#writer?.blocks ?? [];
    const bitmaps =
      into ??
      this.#mapped.map((index) => new PageBitmap((blocks[index] as ImageWriterBlock).pageCount).bytes);
    let pages = 0;
    for (const [region, block] of this.#mapped.entries())
      pages += log?.sync(block, bitmaps[region] as Uint8Array) ?? 0;
    return { bitmaps, pages };
  }

  /** All of the blocks that the engine copies, nothing of those that the source decided to place itself. */
  #wholeBlocks(): [number, number][][] {
    return this.#mapped.map((index) => {
      const block = this.#writer?.blocks[index];
      return block && this.#copied.includes(index) ? [[0, block.usedLength]] : [];
    });
  }

  /** `max-bandwidth` bounds the passes over RAM; the rest, for which the guest was stopped, goes as fast as it can. */
  #limitBandwidth(limited: boolean): void {
    this.#bandwidthIsLimited = limited;
    if (this.#channels) this.#channels.maxBandwidth = limited ? this.#maxBandwidth() : 0;
  }

  #maxBandwidth(): number {
    return Number(this.#parameters['max-bandwidth']);
  }

  /** What the user says the last pass will be written at, where that is said. */
  #switchoverBytesPerMs(): number | undefined {
    return Number(this.#parameters['avail-switchover-bandwidth']) / 1000 || undefined;
  }

  #beginPass(): void {
    this.#passes++;
    this.#phase = `RAM pass ${this.#passes}`;
    this.emit('pass', this.#passes);
  }

  async #stopGuest(): Promise<void> {
    const { signal } = this.#abort;
    signal.throwIfAborted();
    this.#beforeStop = this.#copiedByRunningGuest();
    this.#stoppedAt = performance.now();
    this.#copied = await this.#options.source.stop(signal);
  }

  async #pause(signal: AbortSignal): Promise<void> {
    this.#phase = 'paused before switchover';
    const continued = new Promise<void>((resolve, reject) => {
      this.#continue = resolve;
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    this.#state.moveTo('pre-switchover');
    await continued;
  }

  async #writeDevices(writer: ImageWriter, devices: SourceDevices): Promise<number> {
    const { file, sync = true } = this.#options;
    await writer.writeEnd({ switchoverStart: devices.switchoverStart });
    await writer.writeSections(devices.sections);
    const fileBytes = await writer.finish(devices.vmdescription);
    if (sync) {
      this.#phase = 'syncing';
      await syncFileData(file.mainFd);
    }
    return fileBytes;
  }

  /** Ends in `failed` or `cancelled` with the guest as it was before. Returns the error to throw. */
  async #giveUp(error: unknown): Promise<unknown> {
    const { source, file } = this.#options;
    const cancelled = this.status === 'cancelling';
    if (!cancelled) this.#abort.abort(error);
    this.#channels?.abort();
    await source.cancel();
    this.#error = cancelled
      ? new MapramError('CANCELLED', `saving to ${file.name}: cancelled`, { path: file.name })
      : error instanceof MapramError
        ? error
        : new MapramError('MIGRATION', `saving to ${file.name}: ${errorReason(error)}`, {
            path: file.name,
            cause: error,
          });
    this.#state.moveTo(cancelled ? 'cancelled' : 'failed');
    await delay(0);
    return this.#error;
  }
}
