/** Records of pages in a migration stream, gathered and written in large pieces. */
import {
  BLOCK_NAME_BYTES,
  PAGE_WORD_BYTES,
  RecordEncoder,
  ZERO_RECORD_BYTES,
} from '../stream/page-records.js';
import type { SourcePages } from './page-source.js';

const BUFFER_BYTES = 1 << 20;

/** One for each stream, and one thread for it: records leave out what the record before says. */
export class RecordWriter {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #encoder = new RecordEncoder();
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

  /** @param write takes all of the bytes, whose memory is used again afterwards */
  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
  }

  /** Returns the bytes that were written. */
  write({ block, offsets, data, zeros }: SourcePages): number {
    const { idstr, pageSize } = block;
    const buffer = this.#buffer;
    let written = 0;
    let end = 0;
    const makeRoom = (bytes: number) => {
      if (end > 0 && end + BLOCK_NAME_BYTES + bytes > buffer.length) flush();
    };
    const flush = () => {
      // No Buffer, whose `slice` would not copy.
      this.#write(new Uint8Array(buffer.buffer, buffer.byteOffset, end));
      written += end;
      end = 0;
    };
    for (const { offset, count } of zeros) {
      for (let page = 0; page < count; page++) {
        makeRoom(ZERO_RECORD_BYTES);
        end = this.#encoder.zeroPage(buffer, end, idstr, offset + page * pageSize);
      }
    }
    for (const [index, offset] of offsets.entries()) {
      makeRoom(PAGE_WORD_BYTES + pageSize);
      const page = data.subarray(index * pageSize, (index + 1) * pageSize);
      end = this.#encoder.page(buffer, end, idstr, offset, page);
    }
    if (end > 0) flush();
    return written;
  }
}
