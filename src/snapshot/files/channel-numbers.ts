import { MAXIMUM_FILE_CHANNELS } from '../../channels/file/file-channels.js';
import type { DiskTrial } from './target-speed.js';

/** Channels where nobody says how many, each with one read or write under way: enough to keep a disk busy. */
export const DEFAULT_CHANNELS = 4;

/** The same for channels that queue direct reads or writes, several each: while one sees to pages the other's are under way. */
const DEFAULT_QUEUING_CHANNELS = 2;

/** @param queuing whether they queue what they read or write */
export function defaultChannels(queuing: boolean): number {
  return queuing ? DEFAULT_QUEUING_CHANNELS : DEFAULT_CHANNELS;
}

/** What a processor looks through for zero pages and hashes, in bytes a second. */
const CHANNEL_RATE = 1.5 * 2 ** 30;

/**
 * How many channels a disk wants that was tried.
 *
 * @param queuing whether they queue what they write
 */
export function channelsFor({ writesAtOnce, rate }: DiskTrial, queuing: boolean): number {
  // A channel that looks for zero pages or computes checksums does not write.
  if (!queuing) return writesAtOnce + 1;
  return Math.min(MAXIMUM_FILE_CHANNELS, Math.max(DEFAULT_QUEUING_CHANNELS, Math.ceil(rate / CHANNEL_RATE)));
}
