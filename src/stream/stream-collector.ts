import { defined } from '../defined.js';
import { type DeviceSection, findDescription, type StreamTail } from './device-sections.js';
import type { OpaqueSectionEvent, SectionEvent, StreamEvent } from './stream-event.js';
import { encodeSections } from './stream-writer.js';
import { describedBytes } from './vmdescription.js';

/** A section of another device than RAM that came before the tail: how it was opened, and its data. */
interface KeptSection {
  opening: SectionEvent;
  section: OpaqueSectionEvent;
}

/**
 * Keeps of a stream's events what every reader needs, which is all but the pages. Bytes are copied: the memory of what was parsed
 * may be used again.
 */
export class StreamCollector {
  /** Of RAM; undefined as long as its START has not come. */
  ramSectionId: number | undefined;
  /** PART sections of RAM. */
  rounds = 0;
  ramEnded = false;
  switchoverStart = false;
  /** Whether sections have footers; those of machine types older than 2.4 have none. */
  footers = true;
  /** Where the tail begins, counted from the magic. */
  tailPosition: number | undefined;
  readonly #tail: Uint8Array[] = [];
  /** Devices that are saved before RAM (virtio-mem). */
  readonly #early: KeptSection[] = [];
  /**
   * After the list of RAM blocks, before RAM's END: virtio-mem of QEMU 10.0, and devices that are saved in rounds like RAM (the hash
   * table of ppc64, the storage attributes of s390x).
   */
  readonly #amongRam: KeptSection[] = [];
  #blocksListed = false;
  #opening: SectionEvent | undefined;

  take(event: StreamEvent): void {
    switch (event.type) {
      case 'section':
        this.#opening = event;
        if (event.idstr === 'ram') this.#takeRam(event);
        break;
      case 'section-end':
        this.footers = event.footer;
        break;
      case 'ram-blocks':
        this.#blocksListed = true;
        break;
      case 'opaque-section': {
        const section = { ...event, data: event.data.slice() };
        (this.#blocksListed ? this.#amongRam : this.#early).push({
          opening: this.#opening as SectionEvent,
          section,
        });
        break;
      }
      case 'command':
        if (event.name === 'switchover-start') this.switchoverStart = true;
        break;
      case 'tail':
        this.tailPosition ??= event.position;
        this.#tail.push(event.data.slice());
        break;
    }
  }

  get tail(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#tail));
  }

  /** In stream format. */
  get early(): Uint8Array {
    return encoded(this.#early);
  }

  /** In stream format. */
  get amongRam(): Uint8Array {
    return encoded(this.#amongRam);
  }

  /** The devices that are saved in rounds like RAM, by idstr. */
  get devicesInRounds(): string[] {
    const starts = this.#kept.filter(({ opening }) => opening.kind === 'start');
    return starts.map(({ opening }) => opening.idstr);
  }

  /** All sections before the tail, with their descriptions where the tail has them. */
  described(tail: StreamTail): DeviceSection[] {
    return this.#kept.map(({ opening, section }) => {
      const { kind, sectionId, idstr, data } = section;
      const { instanceId, versionId, position } = opening;
      const description = findDescription(tail.description, idstr, instanceId);
      const fits = description !== undefined && describedBytes(description) === data.byteLength;
      return {
        ...{ kind, sectionId, idstr, instanceId, versionId, position, data },
        delimitedBy: fits ? 'description' : 'footer',
        ...defined({ description }),
      };
    });
  }

  get #kept(): KeptSection[] {
    return [...this.#early, ...this.#amongRam];
  }

  #takeRam({ kind, sectionId }: SectionEvent): void {
    if (kind === 'start') this.ramSectionId = sectionId;
    if (kind === 'part') this.rounds++;
    if (kind === 'end') this.ramEnded = true;
  }
}

function encoded(sections: readonly KeptSection[]): Uint8Array {
  return encodeSections(sections.map(({ opening, section: { data } }) => ({ ...opening, data })));
}
