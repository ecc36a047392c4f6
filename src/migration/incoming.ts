/**
 * A migration out of a mapped-ram file into a guest of this process: the states of a QEMU destination.
 *
 *     setup       open file and channels, match the blocks of file and guest
 *     active      pages through the channels straight into RAM, then the device state
 *     completed   the guest is there, stopped
 */

import { EventEmitter } from 'node:events';
import { channelBlock } from '../channels/channel-block.js';
import { FileChannels } from '../channels/file/file-channels.js';
import { transferWithProgress } from '../channels/file/transfer-with-progress.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import type { DirtyTrackingGuest } from '../guest/guest.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import { isMigrationRunning, type MigrationStatus } from '../options/migration-status.js';
import type { ProgressEvent } from '../progress.js';
import { channelCount } from './channel-count.js';
import type { MigrationFile } from './migration-file.js';
import { MigrationState } from './migration-state.js';

export interface IncomingOptions {
  guest: DirtyTrackingGuest;
  file: MigrationFile;
  parameters: MigrationParameters;
  capabilities: MigrationCapabilities;
  progressMs?: number;
}

export interface IncomingResult {
  /** Of the guest when it was saved, where the file tells; the loaded guest is stopped. */
  runState?: string;
  normalPages: number;
  channels: number;
  direct: boolean;
  totalTimeMs: number;
}

export class IncomingMigration extends EventEmitter<{
  status: [MigrationStatus];
  progress: [ProgressEvent];
}> {
  readonly #options: IncomingOptions;
  readonly #state = new MigrationState((status) => this.emit('status', status));
  readonly #abort = new AbortController();
  #error: unknown;

  constructor(options: IncomingOptions) {
    super();
    this.#options = options;
  }

  get status(): MigrationStatus {
    return this.#state.status;
  }

  /** Why it failed. */
  get error(): unknown {
    return this.#error;
  }

  /** Gives up; `run` rejects with `CANCELLED`. The guest's memory is then in no defined state. */
  cancel(): void {
    if (isMigrationRunning(this.status)) this.#abort.abort();
  }

  /**
   * Loads the file. Call once.
   *
   * @throws MapramError `FORMAT` for a damaged or unfinished file, `VM` when it belongs to another machine; the guest is then of no
   *   use and must be disposed
   */
  async run(): Promise<IncomingResult> {
    this.#state.moveTo('setup');
    try {
      const result = await this.#load();
      this.#state.moveTo('completed');
      return result;
    } catch (error) {
      const { name } = this.#options.file;
      this.#error = this.#abort.signal.aborted
        ? new MapramError('CANCELLED', `loading ${name}: cancelled`, { path: name })
        : error instanceof MapramError
          ? error
          : new MapramError('MIGRATION', `loading ${name}: ${errorReason(error)}`, {
              path: name,
              cause: error,
            });
      this.#state.moveTo('failed');
      throw this.#error;
    }
  }

  async #load(): Promise<IncomingResult> {
    const { guest, file, parameters, capabilities, progressMs } = this.#options;
    const startedAt = performance.now();
    await using image = await MappedRamImage.reopen(file.channelFd, file.name, { offset: file.offset });
    assertComplete(image, file.name);
    assertFitsGuest(guest, image.configuration.machine, image.blocks, file.name);
    const pages = image.blocks.reduce((total, { bitmap }) => total + bitmap.count(), 0);
    await using channels = await FileChannels.open({
      ...file.channelTarget(channelCount(parameters, capabilities)),
      access: 'read',
      direct: file.direct,
      blocks: image.blocks.map((saved) => {
        const block = guest.blocks.find(
          (candidate) => candidate.idstr === saved.idstr,
        ) as (typeof guest.blocks)[number];
        return channelBlock(saved, { memory: { fd: block.fd, offset: block.fdOffset } });
      }),
      signal: this.#abort.signal,
    });
    this.#abort.signal.throwIfAborted();
    this.#state.moveTo('active');
    await transferWithProgress(channels, {
      phase: 'RAM',
      totalBytes: pages * image.pageSize,
      everyMs: progressMs,
      onProgress: (event) => this.emit('progress', event),
    });
    const runState = guest.loadDevices(image.tail.sectionBytes);
    return {
      ...defined({ runState }),
      normalPages: pages,
      channels: channels.count,
      direct: file.direct,
      totalTimeMs: Math.round(performance.now() - startedAt),
    };
  }
}

/** @throws MapramError `FORMAT` for a file whose save was broken off */
export function assertComplete(image: MappedRamImage, name: string): void {
  if (image.complete) return;
  throw new MapramError('FORMAT', `loading ${name}: the save did not finish: ${image.problems.join(', ')}`, {
    path: name,
  });
}

/** @throws MapramError `VM` when machine or RAM blocks are not those of the guest */
export function assertFitsGuest(
  guest: DirtyTrackingGuest,
  machine: string,
  blocks: readonly { readonly idstr: string; readonly usedLength: number }[],
  name: string,
): void {
  const refuse = (problem: string) => new MapramError('VM', `loading ${name}: ${problem}`, { path: name });
  if (machine !== guest.machine)
    throw refuse(`it is of machine type ${machine}, the guest is a ${guest.machine}`);
  for (const { idstr, usedLength } of blocks) {
    const block = guest.blocks.find((candidate) => candidate.idstr === idstr);
    if (!block) throw refuse(`it has a RAM block ${idstr}, which the guest lacks`);
    if (block.usedLength !== usedLength) {
      throw refuse(`its RAM block ${idstr} has ${usedLength} bytes, the guest's has ${block.usedLength}`);
    }
  }
  for (const { idstr } of guest.blocks) {
    if (!blocks.some((block) => block.idstr === idstr))
      throw refuse(`the guest has a RAM block ${idstr}, which it lacks`);
  }
}
