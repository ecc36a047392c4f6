import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';
import { formatSize } from '../../size.js';
import type { Comparison } from '../compare.js';
import { KIND_LOOKS } from '../kind-looks.js';
import type { MemoryPicture, PictureRegion } from '../memory-picture.js';
import { PAGE_KINDS } from '../page-kind.js';
import type { ReportKind, ReportMap } from './report-data.js';

/** The picture as the page wants it, with the cells marked that a comparison found different. */
export async function reportMap(picture: MemoryPicture, comparison?: Comparison): Promise<ReportMap> {
  const { cellBytes, regions } = picture;
  return {
    cellBytes,
    regions: await Promise.all(
      regions.map(async (region) => {
        const { idstr, start = null, blockOffset, length, cells } = region;
        const changed = comparison && (await packed(changedCells(region, cellBytes, comparison)));
        const place = { idstr, start, blockOffset, length, cells: await packed(cells) };
        return changed === undefined ? place : { ...place, changed };
      }),
    ),
  };
}

function changedCells(
  { idstr, blockOffset, length, cells }: PictureRegion,
  cellBytes: number,
  { blocks }: Comparison,
): Uint8Array {
  const changed = new Uint8Array(cells.length);
  const block = blocks.find((candidate) => candidate.idstr === idstr);
  for (const range of block?.ranges ?? []) {
    const from = Math.max(range.offset, blockOffset) - blockOffset;
    const to = Math.min(range.offset + range.length, blockOffset + length) - blockOffset;
    if (from < to) changed.fill(1, Math.floor(from / cellBytes), Math.ceil(to / cellBytes));
  }
  return changed;
}

async function packed(bytes: Uint8Array): Promise<string> {
  return (await promisify(deflateRaw)(bytes)).toString('base64');
}

/** The legend, with sizes. */
export function reportKinds({ bytesByKind, compressibility }: MemoryPicture): ReportKind[] {
  return PAGE_KINDS.map((kind) => {
    const { says, glyph, colour } = KIND_LOOKS[kind];
    const ratio = compressibility[kind];
    return {
      says,
      glyph,
      colour: `#${Buffer.from(colour).toString('hex')}`,
      size: formatSize(bytesByKind[kind]),
      compresses: ratio === undefined ? '' : `to ${Math.round(Math.min(1, ratio) * 100)} %`,
    };
  });
}
