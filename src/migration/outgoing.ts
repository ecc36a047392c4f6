/**
 * A migration out of a VM, into a mapped-ram file or as a stream: the states of QEMU, the passes over RAM, the order of writes.
 *
 *     setup            connect to the source, open the output and its channels
 *     active           stream header and RAM START on the main channel; pages through the channels, pass after pass
 *                      while the guest runs (dirty log) or once after it was stopped
 *     [pre-switchover] guest stopped, all but the device state done; waits for `continue()`
 *     device           last dirty pages, RAM END, device sections, vmdescription, sync
 *     completed
 *
 * A background snapshot goes from active to completed: the guest is stopped once, for the picture that is then saved.
 */

import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import { isMigrationRunning, type MigrationStatus } from '../options/migration-status.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import { MigrationState } from './migration-state.js';
import { FileOutput, type FileOutputOptions, type WrittenChecksums } from './outputs/file-output.js';
import type { MigrationOutput, OutputBlock } from './outputs/migration-output.js';
import type { OutgoingSource, SourceDevices } from './sources/migration-source.js';

interface EngineOptions {
  source: OutgoingSource;
  parameters: MigrationParameters;
  capabilities: MigrationCapabilities;
  /** How often `progress` is emitted, in ms; 200 by default. */
  progressMs?: number;
  /** Called when the guest is no longer needed: memory and device state are taken, though not all written. */
  onStateTaken?: () => Promise<void>;
  /** Called when everything has gone out, before the migration is completed. A throw fails the migration. */
  beforeCompletion?: (result: OutgoingResult, signal: AbortSignal) => Promise<void>;
}

/** Into a mapped-ram file, or to what `output` is. */
export type OutgoingOptions = EngineOptions & (FileOutputOptions | { output: MigrationOutput });

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
  /** Where pages go through multifd channels in packets: all bytes of those. */
  packetBytes?: number;
  remainingBytes: number;
  pageSize: number;
  passes: number;
  /** All of the stream but the pages. */
  streamBytes: number;
  /** Of `streamBytes`, those that QEMU counts as RAM: records, bitmaps and marks between passes. */
  recordBytes: number;
  /** What was written before the guest was stopped for the last pass; nothing of a guest that did not run. */
  beforeStop: { normalBytes: number; recordBytes: number };
}

export interface OutgoingResult {
  ram: RamCounters;
  /** Of a file: its length. */
  fileBytes: number;
  channels: number;
  /** Whether the page channels really used O_DIRECT. */
  direct: boolean;
  setupTimeMs: number;
  totalTimeMs: number;
  /** From the stop of the guest until its device state is taken and, where `onStateTaken` sees to that, it runs again. */
  downtimeMs: number;
  /** Where asked for. */
  checksums?: WrittenChecksums;
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
  readonly #output: MigrationOutput;
  /** Indexes of the blocks whose memory the engine may copy, in the order of the output's passes. */
  #mapped: readonly number[] = [];
  /** Those of them that it does copy. */
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
    this.#output = 'output' in options ? options.output : new FileOutput(options);
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
    const tell = () => this.emit('progress', this.progress());
    const ticker = setInterval(tell, progressMs);
    try {
      this.#state.moveTo('setup');
      const result = await this.#migrate().finally(() => clearInterval(ticker));
      tell();
      await this.#options.beforeCompletion?.(result, this.#abort.signal);
      this.#abort.signal.throwIfAborted();
      this.#state.moveTo('completed');
      this.#totalTimeMs = result.totalTimeMs;
      return result;
    } catch (error) {
      throw await this.#giveUp(error);
    } finally {
      await this.#output.close();
      await source.dispose();
    }
  }

  /** Cancels: the guest goes on as before, the file stays incomplete. Does nothing once the migration has ended. */
  cancel(): void {
    if (!isMigrationRunning(this.status) || this.status === 'cancelling') return;
    this.#state.moveTo('cancelling');
    this.#abort.abort();
    this.#output.abort();
  }

  /** Takes over parameters that may change on the way: `max-bandwidth`, `downtime-limit` and `avail-switchover-bandwidth`. */
  async changeParameters(parameters: MigrationParameters): Promise<void> {
    this.#parameters = parameters;
    if (this.#bandwidthIsLimited) this.#output.maxBandwidth = this.#maxBandwidth();
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
      ...this.#output.counters().channels,
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
    const { pageSize, blocks } = this.#output;
    const { packetBytes, streamBytes, recordBytes, ...sent } = this.#output.counters();
    const placed = source.placed?.();
    const beforeStop = this.#beforeStop ?? this.#copiedByRunningGuest();
    const normalPages = sent.normalPages + (placed?.normalPages ?? 0);
    return {
      totalBytes: blocks.reduce((total, block) => total + block.usedLength, 0),
      normalPages,
      duplicatePages: sent.duplicatePages + (placed?.duplicatePages ?? 0),
      normalBytes: normalPages * pageSize,
      ...defined({ packetBytes }),
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
    const { normalPages, recordBytes } = this.#output.counters();
    return { normalBytes: normalPages * this.#output.pageSize, recordBytes };
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
    const { source, capabilities } = this.#options;
    const output = this.#output;
    const { signal } = this.#abort;
    const setup = await source.setup(signal);
    this.#mapped = setup.blocks.flatMap(({ memory }, index) => (memory ? [index] : []));
    this.#limitBandwidth(true);
    await output.open(setup, signal);
    if (source.place && output.placement) source.place(output.placement());
    this.#setupTimeMs = Math.round(performance.now() - this.#startedAt);
    signal.throwIfAborted();

    this.#remainingBytes = this.ram().totalBytes;
    // QEMU counts the first synchronisation of the dirty log before it is active.
    if (!source.background) this.#beginPass();
    this.#state.moveTo('active');
    // A small guest is through before the first tick: whoever watches hears of it all the same, and may cancel.
    this.emit('progress', this.progress());
    signal.throwIfAborted();
    await output.writeStart();
    if (source.dirtyLog) await this.#copyWhileRunning();
    else await this.#copyStopped();
    signal.throwIfAborted();

    if (!source.background) {
      if (capabilities['pause-before-switchover']) await this.#pause(signal);
      this.#state.moveTo('device');
    }
    if (source.dirtyLog) await this.#copyDirty();
    output.pagesDone?.();
    this.#phase = 'device state';
    const devices = await source.devices(signal);
    signal.throwIfAborted();
    await this.#options.onStateTaken?.();
    this.#downtimeMs = Math.round(
      source.downtimeMs?.() ?? performance.now() - (this.#stoppedAt ?? performance.now()),
    );
    await this.#writeDevices(devices);
    return this.#result();
  }

  #result(): OutgoingResult {
    const { source } = this.#options;
    const file = this.#output instanceof FileOutput ? this.#output : undefined;
    const { checksums } = file ?? {};
    return {
      ram: { ...this.ram(), remainingBytes: 0 },
      fileBytes: file?.fileBytes ?? 0,
      channels: file?.channelCount || source.placed?.().channels.length || 1,
      direct: file?.direct ?? false,
      setupTimeMs: this.#setupTimeMs,
      totalTimeMs: Math.round(performance.now() - this.#startedAt),
      downtimeMs: this.#downtimeMs,
      ...defined({ checksums }),
    };
  }

  /** A guest without dirty log: it is stopped first, and one pass is all. */
  async #copyStopped(): Promise<void> {
    await this.#stopGuest();
    await this.#output.transfer(this.#wholeBlocks());
    await this.#output.writePart();
    this.#remainingBytes = 0;
  }

  /** Passes until what is left can be copied within `downtime-limit`, or copying no longer gains on the guest. */
  async #copyWhileRunning(): Promise<void> {
    const { source } = this.#options;
    source.dirtyLog?.start();
    let begun = performance.now();
    let bytes = this.ram().totalBytes;
    await this.#output.transfer();
    await this.#output.writePart();
    while (this.#passes < MAX_LIVE_PASSES) {
      this.#abort.signal.throwIfAborted();
      this.#bytesPerMs = this.#switchoverBytesPerMs() ?? bytes / Math.max(1, performance.now() - begun);
      const dirty = this.#fetchDirty();
      this.#remainingBytes = dirty.pages * this.#output.pageSize;
      if (this.#remainingBytes <= this.#bytesPerMs * Number(this.#parameters['downtime-limit'])) {
        this.#pending = dirty;
        break;
      }
      this.#beginPass();
      begun = performance.now();
      bytes = this.#remainingBytes;
      await this.#output.transfer(dirty.bitmaps);
      await this.#output.writePart();
    }
    await this.#stopGuest();
  }

  /** Dirty pages that were fetched from the log but not copied yet. */
  #pending: { bitmaps: Uint8Array[]; pages: number } | undefined;

  async #copyDirty(): Promise<void> {
    const dirty = this.#fetchDirty(this.#pending?.bitmaps);
    this.#beginPass();
    this.#limitBandwidth(false);
    await this.#output.transfer(dirty.bitmaps);
    await this.#output.writePart();
    this.#options.source.dirtyLog?.stop();
    this.#remainingBytes = 0;
  }

  #fetchDirty(into?: Uint8Array[]): { bitmaps: Uint8Array[]; pages: number } {
    const log = this.#options.source.dirtyLog;
    const { blocks } = this.#output;
    const bitmaps =
      into ?? this.#mapped.map((index) => new PageBitmap((blocks[index] as OutputBlock).pageCount).bytes);
    let pages = 0;
    for (const [region, block] of this.#mapped.entries())
      pages += log?.sync(block, bitmaps[region] as Uint8Array) ?? 0;
    return { bitmaps, pages };
  }

  /** All of the blocks that the engine copies, nothing of those that the source decided to place itself. */
  #wholeBlocks(): [number, number][][] {
    return this.#mapped.map((index) => {
      const block = this.#output.blocks[index];
      return block && this.#copied.includes(index) ? [[0, block.usedLength]] : [];
    });
  }

  /** `max-bandwidth` bounds the passes over RAM; the rest, for which the guest was stopped, goes as fast as it can. */
  #limitBandwidth(limited: boolean): void {
    this.#bandwidthIsLimited = limited;
    this.#output.maxBandwidth = limited ? this.#maxBandwidth() : 0;
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

  async #writeDevices(devices: SourceDevices): Promise<void> {
    await this.#output.writeDevices(devices, (phase) => {
      this.#phase = phase;
    });
  }

  /** Ends in `failed` or `cancelled` with the guest as it was before. Returns the error to throw. */
  async #giveUp(error: unknown): Promise<unknown> {
    const { source } = this.#options;
    const { name } = this.#output;
    if (this.status !== 'cancelling') this.#abort.abort(error);
    this.#output.abort();
    await source.cancel();
    // It may have been cancelled while it was being given up.
    const cancelled = this.status === 'cancelling';
    this.#error = cancelled
      ? new MapramError('CANCELLED', `saving to ${name}: cancelled`, { path: name })
      : error instanceof MapramError
        ? error
        : new MapramError('MIGRATION', `saving to ${name}: ${errorReason(error)}`, {
            path: name,
            cause: error,
          });
    this.#state.moveTo(cancelled ? 'cancelled' : 'failed');
    await delay(0);
    return this.#error;
  }
}
