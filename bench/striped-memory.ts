import { randomFillSync } from 'node:crypto';
import { closeSync } from 'node:fs';
import { createMemfd } from '../src/io/memory/memfd.js';
import { MemoryMap } from '../src/io/memory/memory-map.js';

export const MIB = 2 ** 20;

/** Memory of a guest that does not exist: stripes of 1 MiB, random or of zeros that are really there. */
export class StripedMemory implements Disposable {
  private constructor(
    readonly fd: number,
    readonly length: number,
    /** Bytes that are not zero. */
    readonly dataBytes: number,
  ) {}

  /** @param zeroPercent how many of a hundred stripes are zero, spread evenly */
  static make(mib: number, zeroPercent: number): StripedMemory {
    const length = mib * MIB;
    const fd = createMemfd('mapram-scaling', length);
    using map = MemoryMap.open({ fd, offset: 0, length, writable: true });
    const random = randomFillSync(Buffer.alloc(16 * MIB + 4096));
    let data = 0;
    for (let stripe = 0; stripe < mib; stripe++) {
      const view = map.view(stripe * MIB, MIB);
      const zero = Math.floor(((stripe + 1) * zeroPercent) / 100) > Math.floor((stripe * zeroPercent) / 100);
      if (zero) {
        view.fill(0);
        continue;
      }
      // Random enough for a disk: the same bytes come at another place each time.
      const at = (stripe * 4099) % (random.length - MIB);
      random.copy(view, 0, at, at + MIB);
      data += MIB;
    }
    return new StripedMemory(fd, length, data);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
