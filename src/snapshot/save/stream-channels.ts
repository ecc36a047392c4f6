import { availableParallelism } from 'node:os';
import type { StreamCompression } from '../../channels/socket/payload-decoder.js';
import { MAXIMUM_SOCKET_CHANNELS } from '../../channels/socket/socket-channel-receiver.js';
import type { QemuWithFeatures } from '../../guest/qemu/qemu-features.js';

/** With fewer, the migration thread of a QEMU up to 8.0, which polls its channels, takes time away from those that move pages. */
const ENOUGH_PROCESSORS = 4;

/** How a stream is to come; the options of `save` that say so. */
export interface StreamWishes {
  readonly channels?: number | 'auto' | undefined;
  readonly multifd?: boolean | undefined;
  readonly background?: boolean | undefined;
  readonly compression?: StreamCompression | undefined;
}

/**
 * The multifd channels that a stream is to come through, 0 for a single, plain connection. Who names a number of channels,
 * or a compression, gets multifd; so does everybody else where it is faster.
 *
 * @param mayConnect whether QEMU can make connections of its own, as multifd does
 * @param defaultChannels where no number was named
 */
export function streamChannels(
  qemu: Pick<QemuWithFeatures, 'has'>,
  options: StreamWishes,
  mayConnect: boolean,
  defaultChannels: number,
  processors = availableParallelism(),
): number {
  const { channels, background = false, compression = 'none' } = options;
  const asked = typeof channels === 'number' || compression !== 'none';
  const isFaster = qemu.has('multifdSleeps') || processors >= ENOUGH_PROCESSORS;
  const { multifd = asked || (isFaster && mayConnect) } = options;
  return multifd && !background
    ? Math.min(typeof channels === 'number' ? channels : defaultChannels, MAXIMUM_SOCKET_CHANNELS)
    : 0;
}
