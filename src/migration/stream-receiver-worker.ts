/** The thread that reads a migration stream from a socket and places its pages in the file. See stream-receiver.ts. */
import { constants } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { errorReason, MapramError } from '../errors.js';
import { O_DIRECT } from '../io/direct-io-support.js';
import { closeFile, openFile } from '../io/open-file.js';
import { readSome } from '../io/sequential-io.js';
import type { StreamEvent } from '../stream/stream-event.js';
import { StreamParser } from '../stream/stream-parser.js';
import { readStreamSync } from '../stream/stream-reader.js';
import { PagePlacer } from './page-placer.js';
import {
  type FromReceiver,
  RECEIVER_COUNTERS,
  type ReceiverWorkerData,
  type ToReceiver,
} from './stream-receiver-protocol.js';

const CHUNK_BYTES = 1 << 20;
/** Device state, EOF and vmdescription; the largest seen is under a megabyte. */
const MAX_TAIL_BYTES = 1 << 30;

const port = parentPort as MessagePort;
const { socket, name, shared } = workerData as ReceiverWorkerData;
const counters = new BigInt64Array(shared, 0, RECEIVER_COUNTERS.length);
const say = (message: FromReceiver, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

const placement = new Promise<ToReceiver>((resolve) => port.once('message', resolve));
say({ type: 'ready' });
receive().catch((error: unknown) => {
  say({
    type: 'error',
    code: error instanceof MapramError ? error.code : 'IO',
    message: error instanceof MapramError ? error.message : `receiving ${name}: ${errorReason(error)}`,
  });
});

async function receive(): Promise<void> {
  const parser = new StreamParser({ name });
  const tail: Uint8Array[] = [];
  let tailBytes = 0;
  let ramSectionId: number | undefined;
  let early = false;
  let switchoverStart = false;
  let placer: PagePlacer | undefined;
  let touched: Uint8Array | undefined;
  let fd = -1;

  const place = async (): Promise<void> => {
    const { configuration, pageSize, blocks } = parser;
    if (!configuration || ramSectionId === undefined) {
      throw new MapramError(
        'FORMAT',
        `receiving ${name}: the stream has no configuration; its machine type is older than 2.4`,
      );
    }
    say({
      type: 'start',
      configuration,
      pageSize,
      ramSectionId,
      blocks: blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      early,
    });
    const message = await placement;
    fd = openFile(message.place.path, constants.O_RDWR | (message.place.direct ? O_DIRECT : 0));
    touched = new Uint8Array(message.touched);
    placer = new PagePlacer(fd, name, message.place.blocks);
  };

  const take = (event: StreamEvent): void => {
    switch (event.type) {
      case 'section':
        if (event.idstr === 'ram' && event.kind === 'start') ramSectionId = event.sectionId;
        break;
      case 'opaque-section':
        early = true;
        break;
      case 'command':
        if (event.name === 'switchover-start') switchoverStart = true;
        break;
      case 'tail':
        tailBytes += event.data.length;
        if (tailBytes > MAX_TAIL_BYTES) {
          throw new MapramError(
            'FORMAT',
            `receiving ${name}: more than ${MAX_TAIL_BYTES} bytes of device state`,
          );
        }
        tail.push(event.data.slice());
        break;
      case 'pages':
      case 'zero-pages':
      case 'xbzrle-page':
      case 'compressed-page':
        takePages(event);
        break;
    }
  };

  const takePages = (
    event: Extract<StreamEvent, { type: 'pages' | 'zero-pages' | 'xbzrle-page' | 'compressed-page' }>,
  ): void => {
    if (!placer || !touched)
      throw new MapramError(
        'FORMAT',
        `receiving ${name}: pages come before the list of RAM blocks is complete`,
      );
    const { idstr } = event.block;
    touched[parser.blocks.indexOf(event.block)] = 1;
    if (event.type === 'pages') placer.pages(idstr, event.offset, event.data);
    else if (event.type === 'zero-pages') placer.zeroPages(idstr, event.offset, event.length);
    else if (event.type === 'xbzrle-page') placer.xbzrlePage(idstr, event.offset, event.encoded);
    else placer.compressedPage(idstr, event.offset, event.compressed);
  };

  const pull = (): Uint8Array => {
    // The parser keeps views on what it has not used up, so each chunk is memory of its own.
    const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const length = readSome(socket, chunk);
    Atomics.add(counters, 3, BigInt(length));
    return chunk.subarray(0, length);
  };

  try {
    for (const events of readStreamSync(pull, parser)) {
      for (const event of events) {
        take(event);
        // The list of blocks has to be answered before the first page, which may be in the same chunk.
        if (event.type === 'ram-blocks') await place();
      }
      if (placer) {
        for (const [index, counter] of (['bytes', 'normalPages', 'duplicatePages'] as const).entries()) {
          Atomics.store(counters, index, BigInt(placer.counters[counter]));
        }
      }
    }
    if (!placer)
      throw new MapramError('FORMAT', `receiving ${name}: the stream ended before its list of RAM blocks`);
    placer.flush();
    for (const [index, counter] of (['bytes', 'normalPages', 'duplicatePages'] as const).entries()) {
      Atomics.store(counters, index, BigInt(placer.counters[counter]));
    }
    const whole = Buffer.concat(tail);
    say({ type: 'tail', tail: new Uint8Array(whole), switchoverStart });
  } finally {
    if (fd >= 0) closeFile(fd);
    port.close();
  }
}
