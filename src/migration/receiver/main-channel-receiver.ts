/**
 * The main channel of a migration stream: everything of a plain stream; with multifd everything but most of the
 * pages.
 */

import type { ChannelInput } from '../../channels/file/channel-input.js';
import type { PagePlacer } from '../../channels/page-placer.js';
import { MapramError } from '../../errors.js';
import { StreamCollector } from '../../stream/stream-collector.js';
import type { StreamEvent } from '../../stream/stream-event.js';
import type { StreamStart } from '../../stream/stream-frame.js';
import { StreamParser } from '../../stream/stream-parser.js';
import type { StreamTail } from './stream-receiver-protocol.js';

const CHUNK_BYTES = 1 << 20;

type PageEvent = Extract<StreamEvent, { type: 'pages' | 'zero-pages' | 'xbzrle-page' | 'compressed-page' }>;

export interface MainChannelOptions {
  input: ChannelInput;
  /** The first bytes of the stream, which were read already. */
  head: Uint8Array;
  name: string;
  /** Given the RAM block list; resolves with who takes the pages, and a byte to set for each block that has any. */
  place(start: StreamStart): Promise<{ placer: PagePlacer; touched: Uint8Array }>;
  /** Present with multifd: called at each sync mark, all pages before it being in the file; returns when all channels are there. */
  synchronize?: () => void;
  /** Called when the first of the device state has come, which is all that follows. */
  onDeviceState?: () => void;
  /** Called after each chunk. */
  onProgress?: (placer: PagePlacer) => void;
}

/**
 * Reads the stream to its end.
 *
 * @throws MapramError `FORMAT` for what is no sound stream, `UNSUPPORTED`
 */
export async function receiveMainChannel(options: MainChannelOptions): Promise<StreamTail> {
  const { input, head, name } = options;
  const parser = new StreamParser({ name });
  const receiver = new MainChannelReceiver(options, parser);
  await receiver.takeAll(parser.push(head));
  const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let length = input.read(chunk); length > 0; length = input.read(chunk)) {
    await receiver.takeAll(parser.push(chunk.subarray(0, length)));
    // The memory of the chunk is used again.
    parser.detach();
  }
  await receiver.takeAll(parser.end());
  return await receiver.finish();
}

class MainChannelReceiver {
  readonly #options: MainChannelOptions;
  readonly #parser: StreamParser;
  readonly #collector = new StreamCollector();
  #placer: PagePlacer | undefined;
  #touched: Uint8Array | undefined;
  #marksAreFlushes: boolean | undefined;

  constructor(options: MainChannelOptions, parser: StreamParser) {
    this.#options = options;
    this.#parser = parser;
  }

  async takeAll(events: StreamEvent[]): Promise<void> {
    for (const event of events) {
      this.#collector.take(event);
      // The list of blocks has to be answered before the first page, which may be in the same chunk.
      if (event.type === 'ram-blocks') await this.#place();
      else await this.#take(event);
    }
    if (this.#placer) this.#options.onProgress?.(this.#placer);
  }

  async finish(): Promise<StreamTail> {
    const { name, onProgress } = this.#options;
    if (!this.#placer)
      throw new MapramError('FORMAT', `receiving ${name}: the stream ended before its list of RAM blocks`);
    await this.#placer.finish();
    onProgress?.(this.#placer);
    const { amongRam, devicesInRounds, tail, switchoverStart, footers } = this.#collector;
    return {
      amongRam,
      devicesInRounds,
      tail,
      switchoverStart,
      started: [...this.#parser.started].map(({ sectionId, idstr, instanceId, versionId }) => ({
        sectionId,
        idstr,
        instanceId,
        versionId,
      })),
      footers,
    };
  }

  async #take(event: Exclude<StreamEvent, { type: 'ram-blocks' }>): Promise<void> {
    switch (event.type) {
      case 'tail':
        if (this.#collector.tailPosition === event.position) this.#options.onDeviceState?.();
        break;
      case 'multifd-flush':
        this.#marksAreFlushes ??= true;
        await this.#synchronize();
        break;
      case 'ram-eos':
        // QEMU up to 8.0, and machine types up to 8.0, have no marks of their own: each section's end is one. Whether
        // that is so shows at the end of the first section.
        this.#marksAreFlushes ??= false;
        if (!this.#marksAreFlushes) await this.#synchronize();
        break;
      case 'pages':
      case 'zero-pages':
      case 'xbzrle-page':
      case 'compressed-page':
        await this.#takePages(event);
        break;
    }
  }

  async #place(): Promise<void> {
    const { configuration, pageSize, blocks } = this.#parser;
    const { name, place } = this.#options;
    const { ramSectionId, early: earlySections } = this.#collector;
    if (!configuration || ramSectionId === undefined) {
      throw new MapramError(
        'FORMAT',
        `receiving ${name}: the stream has no configuration; its machine type is older than 2.4`,
      );
    }
    const { placer, touched } = await place({
      configuration,
      pageSize,
      ramSectionId,
      blocks: blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      earlySections,
    });
    this.#placer = placer;
    this.#touched = touched;
  }

  async #takePages(event: PageEvent): Promise<void> {
    const placer = this.#placer;
    if (!placer || !this.#touched)
      throw new MapramError(
        'FORMAT',
        `receiving ${this.#options.name}: pages come before the list of RAM blocks is complete`,
      );
    const { idstr } = event.block;
    this.#touched[this.#parser.blocks.indexOf(event.block)] = 1;
    if (event.type === 'pages') await placer.pages(idstr, event.offset, event.data);
    else if (event.type === 'zero-pages') await placer.zeroPages(idstr, event.offset, event.length);
    else if (event.type === 'xbzrle-page') await placer.xbzrlePage(idstr, event.offset, event.encoded);
    else await placer.compressedPage(idstr, event.offset, event.compressed);
  }

  async #synchronize(): Promise<void> {
    if (!this.#options.synchronize) return;
    await this.#placer?.settle();
    this.#options.synchronize();
  }
}
