import { availableParallelism } from 'node:os';
import { MAXIMUM_SOCKET_CHANNELS } from '../multifd/socket-channel-receiver.js';
import type { SaveOptions } from './save.js';

/** Up to QEMU 8.0 the migration thread asks its multifd channels again and again whether one is free, without ever sleeping. */
const MULTIFD_SLEEPS_SINCE = [8, 1] as const;
/** With fewer, that thread takes time away from those that move pages. */
const ENOUGH_PROCESSORS = 4;

/**
 * The multifd channels that a stream is to come through, 0 for a single, plain connection. Who names a number of channels,
 * or a compression, gets multifd; so does everybody else where it is faster.
 *
 * @param mayConnect whether QEMU can make connections of its own, as multifd does
 * @param defaultChannels where no number was named
 */
export function streamChannels(
  qemu: { isAtLeast(major: number, minor: number): boolean },
  options: Pick<SaveOptions, 'channels' | 'multifd' | 'background' | 'compression'>,
  mayConnect: boolean,
  defaultChannels: number,
  processors = availableParallelism(),
): number {
  const { channels, background = false, compression = 'none' } = options;
  const asked = typeof channels === 'number' || compression !== 'none';
  const isFaster = qemu.isAtLeast(...MULTIFD_SLEEPS_SINCE) || processors >= ENOUGH_PROCESSORS;
  const { multifd = asked || (isFaster && mayConnect) } = options;
  return multifd && !background
    ? Math.min(typeof channels === 'number' ? channels : defaultChannels, MAXIMUM_SOCKET_CHANNELS)
    : 0;
}
