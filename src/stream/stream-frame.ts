/**
 * A migration stream but for its pages, whoever brings those and whatever the stream goes to:
 *
 * ```
 * start      header, configuration, sections of devices before RAM │ START ram: block list [mark]
 * partStart  PART ram │ records of pages follow
 * partEnd    [mark]
 * ramEnd     [SWITCHOVER_START] │ END ram
 * devices    sections, EOF, vmdescription
 * ```
 */
import { defined } from '../defined.js';
import type { StreamConfiguration } from './configuration.js';
import { StreamWriter } from './stream-writer.js';

/** What a stream begins with. */
export interface StreamStart {
  configuration: StreamConfiguration;
  pageSize: number;
  /** Stable within a stream only: 1 in QEMU 10.0, 2 in 7.2. Kept so that footers match. */
  ramSectionId: number;
  blocks: readonly { idstr: string; usedLength: number }[];
  /** Sections of devices that are saved before RAM (virtio-mem), verbatim; empty where there are none. */
  earlySections: Uint8Array;
}

/** Everything between the end of RAM and the end of the stream. */
export interface StreamDevices {
  /** The device sections verbatim, footers included, without the EOF byte. */
  sections: Uint8Array;
  /** Text of the vmdescription, absent where the machine suppresses it. */
  vmdescription?: string;
  /** Whether the source sent SWITCHOVER_START (QEMU 10.0 machine types). */
  switchoverStart: boolean;
}

/** Where the marks stand at which multifd channels and main channel wait for each other. */
export type SyncMarks =
  /** No multifd channels. */
  | 'none'
  /** At the end of each RAM section: QEMU up to 8.0, and machine types up to 8.0. */
  | 'sections'
  /** MULTIFD_FLUSH records. */
  | 'flushes';

export class StreamFrame {
  constructor(
    private readonly stream: StreamStart,
    readonly marks: SyncMarks = 'none',
  ) {}

  start(): Uint8Array {
    const { configuration, earlySections, ramSectionId, blocks } = this.stream;
    const writer = new StreamWriter().header().configuration(configuration).raw(earlySections);
    writer.ramStart(ramSectionId).ramBlocks(blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })));
    // No page may come through a channel before QEMU has set its RAM up for loading: see `QEMU_FAULTS.earlyPages`.
    return this.#endSection(writer);
  }

  partStart(): Uint8Array {
    return new StreamWriter().sectionPart(this.stream.ramSectionId).drainBytes();
  }

  partEnd(): Uint8Array {
    return this.#endSection(new StreamWriter());
  }

  /** @param switchoverStart whether the destination gets that command: QEMU knows it from 10.0 on */
  ramEnd(switchoverStart: boolean): Uint8Array {
    const { ramSectionId } = this.stream;
    const writer = new StreamWriter();
    if (switchoverStart) writer.switchoverStart();
    return writer.sectionEnd(ramSectionId).ramEos().sectionFooter(ramSectionId).drainBytes();
  }

  devices({ sections, vmdescription }: Omit<StreamDevices, 'switchoverStart'>): Uint8Array {
    const writer = new StreamWriter().raw(sections).eof();
    if (vmdescription !== undefined) writer.vmdescription(vmdescription);
    return writer.drainBytes();
  }

  #endSection(writer: StreamWriter): Uint8Array {
    if (this.marks === 'flushes') writer.multifdFlush();
    return writer.ramEos().sectionFooter(this.stream.ramSectionId).drainBytes();
  }
}

/** What of a saved VM a stream is made of: a `MappedRamImage` has it, and any `SavedVm`. */
export interface SavedStream {
  readonly configuration: StreamConfiguration;
  readonly pageSize: number;
  readonly ramSectionId: number;
  readonly earlySectionBytes: Uint8Array;
  readonly blocks: readonly { readonly idstr: string; readonly usedLength: number }[];
  readonly switchoverStart: boolean;
  readonly tail: { readonly sectionBytes: Uint8Array; readonly descriptionText?: string };
}

/** What a saved VM is as a stream without mapped-ram. */
export function streamOfSaved(saved: SavedStream): { start: StreamStart; devices: StreamDevices } {
  const { configuration, pageSize, ramSectionId, earlySectionBytes, blocks, switchoverStart, tail } = saved;
  const capabilities = configuration.capabilities.filter((name) => name !== 'mapped-ram');
  return {
    start: {
      configuration: { ...configuration, capabilities },
      earlySections: earlySectionBytes,
      ...{ pageSize, ramSectionId, blocks },
    },
    devices: {
      sections: tail.sectionBytes,
      switchoverStart,
      ...defined({ vmdescription: tail.descriptionText }),
    },
  };
}
