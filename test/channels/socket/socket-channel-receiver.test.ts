/** What the SYNC packets of multifd channels are for. */

import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { ChannelInput } from '../../../src/channels/file/channel-input.js';
import { PagePlacer } from '../../../src/channels/page-placer.js';
import { receiveSocketChannel } from '../../../src/channels/socket/socket-channel-receiver.js';
import { PageBitmap } from '../../../src/mapped-ram/bitmap.js';
import { blockName, packet, pageCount, pageOf, pageSize, syncPacket } from '../../migration/made-stream.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

class MadeInput implements ChannelInput {
  position = 0;

  constructor(private readonly bytes: Uint8Array) {}

  read(into: Uint8Array): number {
    const part = this.bytes.subarray(this.position, this.position + into.length);
    into.set(part);
    this.position += part.length;
    return part.length;
  }
}

/** What a page holds after two channels have brought it, the old copy before their SYNC and the new one behind it. */
async function lastCopy(order: 'new first' | 'held'): Promise<number> {
  const folder = temporaryFolder('sync');
  const fd = openSync(path.join(folder, 'file'), 'w+');
  try {
    const bitmap = PageBitmap.shared(pageCount).buffer as SharedArrayBuffer;
    const block = { idstr: blockName, usedLength: pageCount * pageSize, pageSize, pagesOffset: 0, bitmap };
    const channel = (bytes: Uint8Array[]) => {
      const placer = new PagePlacer(fd, { name: 'made', direct: false, blocks: [block] });
      const input = new MadeInput(Buffer.concat(bytes));
      return receiveSocketChannel({ input, name: 'made', pageSize, placer, synchronize: () => {} });
    };
    const [page, old, fresh] = [3, 1, 2];
    const slow = [packet([{ page, contents: pageOf(page, old) }]), syncPacket()];
    const fast = [syncPacket(), packet([{ page, contents: pageOf(page, fresh) }])];
    if (order === 'new first') {
      // Nobody holds it: the fast channel goes past its SYNC before the slow one has begun.
      await channel(fast);
      await channel(slow);
    } else {
      await channel(slow);
      await channel(fast);
    }
    const slot = Buffer.alloc(pageSize);
    readSync(fd, slot, 0, pageSize, page * pageSize);
    return slot.readUInt32LE(4);
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

test('a channel that is not held at its SYNC lets an old copy of a page replace the newer one', async () => {
  assert.equal(await lastCopy('new first'), 1, 'which is why StreamReceiver holds it');
  assert.equal(await lastCopy('held'), 2);
});
