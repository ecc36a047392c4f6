import type { PageKind } from './page-kind.js';

/** How a kind of page is shown. */
export interface KindLook {
  /** A character of its own, so that pictures are readable without colour. */
  readonly glyph: string;
  readonly colour: readonly [red: number, green: number, blue: number];
  readonly says: string;
}

/** The colours are those of Okabe and Ito, which most colour-blind people tell apart. */
export const KIND_LOOKS: Readonly<Record<PageKind, KindLook>> = {
  zero: { glyph: '·', colour: [68, 68, 68], says: 'zero' },
  text: { glyph: 't', colour: [240, 228, 66], says: 'text' },
  code: { glyph: 'c', colour: [86, 180, 233], says: 'code-like' },
  data: { glyph: 'd', colour: [0, 158, 115], says: 'other data' },
  dense: { glyph: 'x', colour: [213, 94, 0], says: 'high entropy' },
  stale: { glyph: 's', colour: [204, 121, 167], says: 'stale slot' },
};
