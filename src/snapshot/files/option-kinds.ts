/** Schemas of options that several operations have. */
import * as v from 'valibot';
import { callback, either, oneOf, signal, wholeNumber } from '../../checked-options.js';
import type { ProgressEvent } from '../../progress.js';
import type { StoreUnlock } from '../../store/store-keys.js';

/** QEMU's bound of `multifd-channels`. */
export const MAX_CHANNELS = 255;

export const directIo = v.optional(oneOf(['auto', 'on', 'off']));
export const channels = v.optional(wholeNumber(1, MAX_CHANNELS));
export const tunedChannels = v.optional(
  either(
    (value) => typeof value === 'number',
    wholeNumber(1, MAX_CHANNELS),
    v.literal('auto', `'auto' or a whole number from 1 to ${MAX_CHANNELS}`),
  ),
);
export const offset = v.optional(wholeNumber(0));
export const onProgress = callback<(event: ProgressEvent) => void>();
export const onWarning = callback<(message: string) => void>();

/** Through which a caller takes part in an operation. */
export const participation = { signal, onProgress, onWarning };

const texts = v.optional(v.array(v.string('a string'), 'an array of strings'));
const passphrase = v.optional(v.string('a string'));

export const unlock: v.GenericSchema<StoreUnlock | undefined> = v.optional(
  v.strictObject({ identities: texts, passphrase }, 'an object with identities or a passphrase'),
) as never;
export const encryption = v.optional(
  v.strictObject({ recipients: texts, passphrase }, 'an object with recipients or a passphrase'),
);
