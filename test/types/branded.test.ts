/** What must not compile: the compiler checks it. */
import { test } from 'node:test';
import { PageIndex } from '../../src/analysis/page-index.js';
import { fileOffset, guestAddress, pageNumber, streamPosition } from '../../src/branded.js';
import type { ByteSource } from '../../src/mapped-ram/byte-source.js';
import { GuestMap } from '../../src/mapped-ram/guest-map.js';
import { firstRecordOffset, layoutBlocks } from '../../src/mapped-ram/layout.js';

const configuration = { machine: 'made-9.0', capabilities: [] };

test('positions of different kinds cannot be mixed', () => {
  const read: ByteSource['read'] = async () => new Uint8Array(0);
  void read(fileOffset(1), 1);
  // @ts-expect-error a position in a stream is not one in a file
  void read(streamPosition(1), 1);
  // @ts-expect-error nor is what is computed from an offset, before it is said to be one
  void read(fileOffset(1) + 1, 1);

  const index = new PageIndex('made', 0).addBlock(8);
  index.setRaw(pageNumber(1), streamPosition(2));
  // @ts-expect-error the page comes first
  index.setRaw(streamPosition(2), pageNumber(1));

  const map = new GuestMap(configuration, []);
  void map.slices(guestAddress(0), 1);
  // @ts-expect-error an offset in the file is no guest address
  void map.slices(fileOffset(0), 1);

  layoutBlocks([], firstRecordOffset(fileOffset(0), configuration), 4096);
  // @ts-expect-error where the first record is depends on where in the file the stream is
  layoutBlocks([], guestAddress(0), 4096);
});
