/**
 * A migration that comes in as a stream, plain or with multifd channels, into a guest of this process: the threads that
 * receive it put the pages straight into the guest's memory.
 */

import type { PagePlace } from '../channels/page-placer.js';
import { MapramError } from '../errors.js';
import type { DirtyTrackingGuest, GuestRamBlock } from '../guest/guest.js';
import { descriptorPath } from '../io/file/open-file.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import { assertFitsGuest } from './incoming.js';
import { soundTail } from './qemu-stream.js';
import { StreamReceiver } from './receiver/stream-receiver.js';

export interface IncomingStreamOptions {
  guest: DirtyTrackingGuest;
  /** For messages. */
  name: string;
  /** Multifd channels; 0 for a plain stream. */
  channels: number;
}

export class IncomingStream {
  readonly #options: IncomingStreamOptions;
  readonly #receiver: StreamReceiver;

  /** Starts the threads, so that they are there when the sender connects. */
  constructor(options: IncomingStreamOptions) {
    this.#options = options;
    const { name, channels } = options;
    this.#receiver = new StreamReceiver({ connections: channels + 1, name });
  }

  /**
   * Loads the guest, which is then stopped. Call once.
   *
   * @param fds of the connections, in any order; they stay the caller's
   * @returns the run state in which the guest was saved, where the stream tells
   * @throws MapramError `FORMAT`, `UNSUPPORTED`, `VM` when the stream belongs to another machine; the guest is then of no use
   */
  async run(fds: readonly number[]): Promise<string | undefined> {
    const { guest, name } = this.#options;
    this.#receiver.connected(fds);
    const { configuration, blocks } = await this.#receiver.start();
    const { machine, capabilities } = configuration;
    if (capabilities.includes('mapped-ram')) {
      throw new MapramError(
        'FORMAT',
        `loading ${name}: Capability mapped-ram is off, but received capability is on`,
      );
    }
    assertFitsGuest(guest, machine, blocks, name);
    this.#receiver.place(placeInGuest(guest.blocks, name));
    const tail = await this.#receiver.tail();
    const [device] = tail.devicesInRounds;
    if (device !== undefined)
      throw new MapramError(
        'VM',
        `loading ${name}: the guest has no device ${device}, which is saved in rounds`,
      );
    const { sectionBytes } = await soundTail(tail, name);
    return guest.loadDevices(sectionBytes);
  }

  /** Gives up: `run` rejects with `CANCELLED`. */
  abort(): void {
    this.#receiver.abort();
  }

  /** Ends the threads. Never throws. */
  async dispose(): Promise<void> {
    await this.#receiver.dispose();
  }
}

/** The guest's memory, which is empty, as a file of slots: all blocks of a guest of this process lie in one. */
function placeInGuest(blocks: readonly GuestRamBlock[], name: string): PagePlace {
  const [first] = blocks;
  if (first === undefined || blocks.some(({ fd }) => fd !== first.fd)) {
    throw new MapramError('VM', `loading ${name}: the guest's memory is not in one file`);
  }
  return {
    name,
    path: descriptorPath(first.fd),
    direct: false,
    blocks: blocks.map(({ idstr, usedLength, pageSize, fdOffset: pagesOffset }) => ({
      idstr,
      usedLength,
      pageSize,
      pagesOffset,
      bitmap: PageBitmap.shared(usedLength / pageSize).bytes.buffer as SharedArrayBuffer,
    })),
  };
}
