import { commandName, SectionType } from './format.js';

export interface FooterContext {
  /** Where to start looking. */
  from: number;
  /** Ids of the sections that have started, one of which a PART or END must carry. */
  started: { has(sectionId: number): boolean };
  /** Whether the stream ends with these bytes, so that an EOF byte (and vmdescription) may follow. */
  atEnd: boolean;
}

/**
 * Where the footer of section `sectionId` starts in `bytes`, going by its five bytes and by what follows being
 * able to follow a section; -1 if there is none.
 */
export function findFooter(bytes: Uint8Array, sectionId: number, context: FooterContext): number {
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const footer = Buffer.alloc(5);
  footer[0] = SectionType.FOOTER;
  footer.writeUInt32BE(sectionId, 1);
  for (let at = haystack.indexOf(footer, context.from); at !== -1; at = haystack.indexOf(footer, at + 1)) {
    if (canFollowSection(haystack, at + 5, context)) return at;
  }
  return -1;
}

/** How many bytes past a footer must be there for `findFooter` to judge it. */
export const FOOTER_LOOKAHEAD_BYTES = 5 + 1 + 4 + 1 + 255 + 8;

function canFollowSection(bytes: Buffer, at: number, { started, atEnd }: FooterContext): boolean {
  const rest = bytes.length - at;
  switch (bytes[at]) {
    case SectionType.START:
    case SectionType.FULL: {
      if (rest < 6) return false;
      const idlen = bytes[at + 5] as number;
      if (idlen === 0 || rest < 6 + idlen + 8) return false;
      for (let index = at + 6; index < at + 6 + idlen; index++) {
        const byte = bytes[index] as number;
        if (byte < 0x20 || byte > 0x7e) return false;
      }
      return true;
    }
    case SectionType.PART:
    case SectionType.END:
      return rest >= 5 && started.has(bytes.readUInt32BE(at + 1));
    case SectionType.COMMAND:
      return rest >= 5 && commandName(bytes.readUInt16BE(at + 1)) !== undefined;
    case SectionType.EOF:
      if (!atEnd) return false;
      return (
        rest === 1 || (rest >= 6 && bytes[at + 1] === SectionType.VMDESCRIPTION && bytes[at + 6] === 0x7b)
      );
    default:
      return false;
  }
}
