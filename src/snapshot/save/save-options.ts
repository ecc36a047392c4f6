/** What a save may be asked for. */

import * as v from 'valibot';
import {
  STREAM_COMPRESSIONS,
  type StreamCompression,
  whyNotDecodable,
} from '../../channels/socket/payload-decoder.js';
import { either, flag, oneOf, optionsOf, path, wholeNumber } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import type { Afterwards } from '../../guest/qemu/run-states.js';
import type { DirectIoMode } from '../../io/file/open-direct.js';
import type { LiveLimits } from '../../migration/live-limits.js';
import { SAVE_METHODS, type SaveMethod } from '../../migration/save-method.js';
import type { OperationOptions } from '../../progress.js';
import { directIo, offset, participation, tunedChannels } from '../files/option-kinds.js';
import { type VmReference, vmOption } from '../files/vm-option.js';

export interface SaveOptions extends OperationOptions {
  /**
   * A QMP socket (`PATH`, `unix:PATH`, `tcp:HOST:PORT`), a connection to one, a VM that this process has resumed, or a guest of this
   * process.
   */
  vm: VmReference;
  file: string;
  /** Whether pages bypass the page cache; `auto`, the default, does where the file system allows. */
  directIo?: DirectIoMode | undefined;
  /**
   * Threads that write pages, 1 to 255 of which 16 are used at most. `auto`, the default, tries the disk before a VM that is worth
   * it is touched.
   */
  channels?: number | 'auto' | undefined;
  method?: SaveMethod | 'auto' | undefined;
  /** The guest runs on while its RAM is copied and stops only for the rest; with limits, or without (`true`). */
  live?: boolean | LiveLimits | undefined;
  /** The guest stops for its device state only and runs on at once, while QEMU saves each page before it changes. */
  background?: boolean | undefined;
  /**
   * Whether a stream comes through `channels` multifd channels or through one connection. By default what is faster: channels,
   * but not from a QEMU before 8.1 on a host with few processors.
   */
  multifd?: boolean | undefined;
  /** How QEMU compresses what it sends through the multifd channels of a stream; the file holds plain pages. */
  compression?: StreamCompression | undefined;
  /**
   * What becomes of the VM; on the command line `--then`, which as a member would make promises of options. By default it is brought
   * back to the state it was in.
   */
  afterwards?: Afterwards | undefined;
  /** Replace an existing file, once the new one is complete. */
  force?: boolean | undefined;
  /** Whether the file gets checksums of its pages; true by default. */
  checksums?: boolean | undefined;
  /** Path of an Ed25519 private key in PEM form; the file is then signed, and its checksums are SHA-256. */
  sign?: string | undefined;
  /** Where in the file the stream starts; 0 by default. */
  offset?: number | undefined;
  onWarning?: ((message: string) => void) | undefined;
}

const time = v.optional(wholeNumber(1));

const liveLimits = optionsOf<LiveLimits>({
  downtimeLimitMs: time,
  autoConverge: flag,
  maxTimeMs: time,
  onTimeout: v.optional(oneOf(['stop', 'cancel'])),
});

/** All but where it goes. */
export const saveEntries = {
  vm: vmOption,
  directIo,
  channels: tunedChannels,
  method: v.optional(oneOf(['auto', ...SAVE_METHODS])),
  live: v.optional(
    either(
      (value) => typeof value === 'object' && value !== null,
      liveLimits,
      v.boolean('true, false or an object with limits'),
    ),
  ),
  background: flag,
  multifd: flag,
  compression: v.optional(oneOf(STREAM_COMPRESSIONS)),
  afterwards: v.optional(oneOf(['cont', 'stop', 'quit'])),
  checksums: flag,
  sign: v.optional(path),
  offset,
  ...participation,
};

const FORMER = {
  signingKey: 'it is called sign now',
  // biome-ignore lint/suspicious/noThenProperty: what is warned of.
  then: 'it is called afterwards, since a member of this name would make promises of options',
};

export const SaveOptionsSchema = optionsOf<SaveOptions>({ ...saveEntries, file: path, force: flag }, FORMER);

/** Refuses what contradicts itself or cannot work here, before anything is created or any VM is touched. */
export function assertSensible(options: SaveOptions): void {
  const { vm, file, live, background, multifd, compression = 'none', checksums, sign } = options;
  const refuse = (problem: string) =>
    new MapramError('USAGE', `saving to ${file}: ${problem}`, { path: file });
  if (sign !== undefined && checksums === false) {
    throw refuse('a signature needs checksums; leave out one of the two');
  }
  if (background && live) throw refuse('a save is either live or a background snapshot, not both');
  if (compression !== 'none') {
    if (background || multifd === false) throw refuse('only multifd channels can be compressed');
    const problem = whyNotDecodable(compression);
    if (problem !== undefined)
      throw new MapramError('UNSUPPORTED', `saving to ${file}: ${problem}`, { path: file });
  }
  if (!(vm instanceof BuiltinGuest)) return;
  if (background || multifd === false || compression !== 'none')
    throw refuse('background snapshots and streams need a QEMU, not the built-in guest');
  if (typeof live === 'object' && (live.autoConverge || live.maxTimeMs !== undefined))
    throw refuse('auto-converge and time limits need a QEMU, not the built-in guest');
}
