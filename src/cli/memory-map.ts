import { KIND_LOOKS } from '../analysis/kind-looks.js';
import type { MemoryPicture, PictureRegion } from '../analysis/memory-picture.js';
import { PAGE_KINDS, type PageKind } from '../analysis/page-kind.js';
import { formatSize } from '../size.js';
import { visibleLine } from '../visible.js';
import { Verbatim } from './verbatim.js';

const CELLS_A_ROW = 64;
/** Rows that all regions together have at most, roughly. */
const MAX_ROWS = 48;

export interface MapOptions {
  /** 24-bit colours. */
  readonly colour: boolean;
}

/**
 * The picture as lines of characters, a region below the other, each line beginning with its address. Characters are in
 * upper case where at least half of what they stand for is of any kind but zero.
 */
export function memoryMap(picture: MemoryPicture, { colour }: MapOptions): Verbatim {
  const step = stepOf(picture);
  const legend = PAGE_KINDS.map((kind) => {
    const { glyph, says } = KIND_LOOKS[kind];
    const size = formatSize(picture.bytesByKind[kind]);
    return `${paint(glyph, kind, colour)} ${says} ${size}`;
  });
  const lines = [
    ...picture.regions.flatMap((region) => regionLines(region, step, picture.cellBytes, colour)),
    `${legend.join('   ')}`,
    `A character is ${formatSize(step * picture.cellBytes)}; a capital where at least half of it is not zero.`,
  ];
  return new Verbatim(lines.join('\n'));
}

/** Whether a stream should get colours: NO_COLOR and FORCE_COLOR say so, else being a terminal does. */
export function wantsColour(stream: NodeJS.WriteStream, environment: NodeJS.ProcessEnv): boolean {
  if (environment.NO_COLOR) return false;
  if (environment.FORCE_COLOR) return environment.FORCE_COLOR !== '0';
  return stream.isTTY && environment.TERM !== 'dumb';
}

/** The picture for JSON: a character a cell. */
export function mapFields({
  cellBytes,
  regions,
  bytesByKind,
  compressibility,
}: MemoryPicture): Record<string, unknown> {
  return {
    cellBytes,
    bytesByKind,
    compressibility,
    kinds: Object.fromEntries(PAGE_KINDS.map((kind) => [KIND_LOOKS[kind].glyph, kind])),
    regions: regions.map(({ cells, filled, ...region }) => ({
      ...region,
      cells: Array.from(cells, (cell) => KIND_LOOKS[PAGE_KINDS[cell] ?? 'zero'].glyph).join(''),
      filled,
    })),
  };
}

/** Cells of the picture to a character. */
function stepOf({ regions }: MemoryPicture): number {
  let step = 1;
  const rows = () =>
    regions.reduce((sum, { cells }) => sum + Math.ceil(cells.length / step / CELLS_A_ROW), 0) -
    regions.length;
  while (rows() > MAX_ROWS) step *= 2;
  return step;
}

function regionLines(
  { idstr, start, blockOffset, length, cells, filled }: PictureRegion,
  step: number,
  cellBytes: number,
  colour: boolean,
): string[] {
  const place =
    start === undefined ? 'guest address not known, offsets in the block' : `guest address ${hex(start)}`;
  const lines = [`${visibleLine(idstr)}, ${formatSize(length)}, ${place}`];
  const perRow = CELLS_A_ROW * step;
  for (let row = 0; row < cells.length; row += perRow) {
    const address = (start ?? blockOffset) + row * cellBytes;
    let text = '';
    for (let at = row; at < Math.min(row + perRow, cells.length); at += step) {
      text += character(cells.subarray(at, at + step), filled.subarray(at, at + step), colour);
    }
    lines.push(`${address.toString(16).padStart(12)} ${text}`);
  }
  return [...lines, ''];
}

function character(cells: Uint8Array, filled: Uint8Array, colour: boolean): string {
  const counts = PAGE_KINDS.map(() => 0);
  for (const cell of cells) counts[cell] = (counts[cell] ?? 0) + 1;
  const others = counts.slice(1);
  const most = Math.max(...others);
  const kind = most === 0 ? 'zero' : (PAGE_KINDS[1 + others.indexOf(most)] as PageKind);
  const half = filled.reduce((sum, share) => sum + share, 0) >= filled.length * 127;
  const { glyph } = KIND_LOOKS[kind];
  return paint(half ? glyph.toUpperCase() : glyph, kind, colour);
}

function paint(glyph: string, kind: PageKind, colour: boolean): string {
  if (!colour) return glyph;
  const rgb = KIND_LOOKS[kind].colour.join(';');
  return kind === 'zero' ? `\x1b[38;2;${rgb}m${glyph}\x1b[0m` : `\x1b[48;2;${rgb};38;2;0;0;0m${glyph}\x1b[0m`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
