/** What a mapped-ram file becomes when it is played as a stream: everything but the pages. */
import type { StreamConfiguration } from '../../stream/configuration.js';
import { StreamWriter } from '../../stream/stream-writer.js';

/** Where the marks stand at which multifd channels and main channel wait for each other. */
export type SyncMarks =
  /** No multifd channels. */
  | 'none'
  /** At the end of each RAM section: QEMU up to 8.0, and machine types up to 8.0. */
  | 'sections'
  /** MULTIFD_FLUSH records. */
  | 'flushes';

/** The parts of the stream around the pages. Pages go between `opening` and `closing`. */
export interface StreamParts {
  /** Up to where the records of the first round of pages begin. */
  opening: Uint8Array;
  /** From the end of the pages to the end of the stream. */
  closing: Uint8Array;
}

/** What must be known of a saved VM: a `MappedRamImage` has it. */
export interface StreamOrigin {
  readonly configuration: StreamConfiguration;
  readonly ramSectionId: number;
  readonly earlySectionBytes: Uint8Array;
  readonly blocks: readonly { readonly idstr: string; readonly usedLength: number }[];
  readonly switchoverStart: boolean;
  readonly tail: { readonly sectionBytes: Uint8Array; readonly descriptionText?: string };
}

/**
 * @param switchoverStart whether the command SWITCHOVER_START may be sent: QEMU knows it from 10.0 on
 */
export function streamPartsOf(
  image: StreamOrigin,
  { marks, switchoverStart }: { marks: SyncMarks; switchoverStart: boolean },
): StreamParts {
  const { ramSectionId, configuration, tail } = image;
  const capabilities = configuration.capabilities.filter((name) => name !== 'mapped-ram');
  const opening = new StreamWriter()
    .header()
    .configuration({ ...configuration, capabilities })
    .raw(image.earlySectionBytes)
    .ramStart(ramSectionId)
    .ramBlocks(image.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })));
  // No page may come through a channel before QEMU has set its RAM up for loading: 10.0.2 crashes on one.
  if (marks === 'flushes') opening.multifdFlush();
  opening.ramEos().sectionFooter(ramSectionId).sectionPart(ramSectionId);
  const closing = new StreamWriter();
  if (marks === 'flushes') closing.multifdFlush();
  closing.ramEos().sectionFooter(ramSectionId);
  if (switchoverStart && image.switchoverStart) closing.switchoverStart();
  closing.sectionEnd(ramSectionId).ramEos().sectionFooter(ramSectionId).raw(tail.sectionBytes).eof();
  if (tail.descriptionText !== undefined) closing.vmdescription(tail.descriptionText);
  return { opening: opening.drainBytes(), closing: closing.drainBytes() };
}

/** How often each channel must send SYNC, and when: as many as there are marks in the parts. */
export function syncsOf(marks: SyncMarks): { beforePages: number; afterPages: number } {
  // In START; then in PART, and where each section's end is a mark, in END.
  return { beforePages: 1, afterPages: marks === 'sections' ? 2 : 1 };
}
