/**
 * The RAM blocks of a running QEMU, as its monitor lists them. There is no QMP command for this: `info ramblock`
 * is read through `human-monitor-command`.
 *
 *     Block Name    PSize              Offset               Used              Total                HVA  RO
 *           mem0    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x00007f4a7ffff000  rw
 *
 * HVA and RO are absent in older versions (7.2 has neither); names may contain blanks.
 */
import { MapramError } from '../../errors.js';

export interface QemuRamBlock {
  idstr: string;
  /** Bytes that a migration carries; at most `totalLength`. */
  usedLength: number;
  totalLength: number;
  /** Address of the block in QEMU's own memory, where the version tells it. */
  hostAddress?: bigint;
}

const ROW =
  /^\s*(\S.*?)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)(?:\s+0x([0-9a-f]+))?(?:\s+r[wo])?\s*$/;

const HEADER_ONLY = /^\s*Block Name\s[^\n]*\s*$/;

/** @throws MapramError `VM` where there are no blocks, `MONITOR` where the text is something else */
export function parseRamBlocks(text: string): QemuRamBlock[] {
  const blocks: QemuRamBlock[] = [];
  for (const line of text.split(/\r?\n/)) {
    const row = ROW.exec(line);
    if (!row) continue;
    const [, idstr, used, total, hva] = row as unknown as [
      string,
      string,
      string,
      string,
      string | undefined,
    ];
    const block: QemuRamBlock = {
      idstr,
      usedLength: Number.parseInt(used, 16),
      totalLength: Number.parseInt(total, 16),
    };
    if (hva !== undefined) block.hostAddress = BigInt(`0x${hva}`);
    blocks.push(block);
  }
  if (blocks.length === 0) {
    if (HEADER_ONLY.test(text)) {
      throw new MapramError(
        'VM',
        'reading the RAM blocks of QEMU: it has none; a machine without memory (-machine none without -m) can be neither saved nor loaded',
      );
    }
    throw new MapramError(
      'MONITOR',
      `reading the RAM blocks of QEMU: "info ramblock" lists none in this form: ${text.slice(0, 80)}`,
    );
  }
  return blocks;
}
