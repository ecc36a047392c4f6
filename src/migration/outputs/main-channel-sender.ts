/** The main channel of a stream that is made from a mapped-ram file. */

import type { PageSupply } from '../../channels/file/page-supply.js';
import { SUPPLY_BYTES } from '../../channels/file/page-supply.js';
import {
  BLOCK_NAME_BYTES,
  PAGE_WORD_BYTES,
  RecordEncoder,
  ZERO_RECORD_BYTES,
} from '../../stream/page-records.js';
import type { StreamParts } from './stream-of-image.js';

export interface MainChannelSenderOptions {
  parts: StreamParts;
  supply: PageSupply;
  /** Writes all of the bytes, blocking. */
  write(bytes: Uint8Array): void;
  /** Whether pages with contents go here too, and not through multifd channels. */
  withPages: boolean;
  /** Called after each chunk of pages with what went out; throws to stop. */
  onPages?: (normalPages: number, zeroPages: number) => void;
}

/** Sends the whole stream. Zero pages always go here: multifd channels carry them only since QEMU 9.0. */
export function sendMainChannel({
  parts,
  supply,
  write,
  withPages,
  onPages,
}: MainChannelSenderOptions): void {
  const records = new RecordEncoder();
  // Pages of the smallest size, 512 bytes, have the most words.
  const buffer = Buffer.allocUnsafeSlow(
    BLOCK_NAME_BYTES + SUPPLY_BYTES + (SUPPLY_BYTES / 512) * PAGE_WORD_BYTES,
  );
  const zerosAtOnce = Math.floor((buffer.length - BLOCK_NAME_BYTES) / ZERO_RECORD_BYTES);
  write(parts.opening);
  for (let chunk = 0; chunk < supply.chunks; chunk++) {
    let zeroPages = 0;
    for (const { block, offset, count } of supply.zeroRuns(chunk)) {
      const { idstr, pageSize } = block;
      for (let done = 0; done < count; done += zerosAtOnce) {
        const some = Math.min(zerosAtOnce, count - done);
        const end = records.zeroPages(buffer, 0, idstr, offset + done * pageSize, some, pageSize);
        write(buffer.subarray(0, end));
      }
      zeroPages += count;
    }
    const supplied = withPages ? supply.read(chunk) : undefined;
    if (supplied && supplied.offsets.length > 0) {
      const { block, offsets, data } = supplied;
      let end = 0;
      for (const [index, offset] of offsets.entries()) {
        const page = data.subarray(index * block.pageSize, (index + 1) * block.pageSize);
        end = records.pages(buffer, end, block.idstr, offset, page, block.pageSize);
      }
      write(buffer.subarray(0, end));
    }
    onPages?.(supplied?.offsets.length ?? 0, zeroPages);
  }
  write(parts.closing);
}
