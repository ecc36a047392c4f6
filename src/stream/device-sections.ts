import { errorReason } from '../errors.js';
import { findFooter } from './footer-search.js';
import { COMMANDS, commandName, type SectionKind, SectionType, StreamLimit } from './format.js';
import { inSlices, SLICE_LENGTH, type SlicedWork } from './slices.js';
import type { CommandEvent } from './stream-event.js';
import type { SectionOpening } from './stream-writer.js';
import {
  type DeviceDescription,
  describedBytes,
  descriptionSteps,
  mayBeLonger,
  type VmDescription,
} from './vmdescription.js';

/** A section of the tail, or one sent before RAM. */
export interface DeviceSection {
  kind: SectionKind;
  sectionId: number;
  idstr: string;
  instanceId: number;
  versionId: number;
  /** Where the section's type byte is, counted from the magic. */
  position: number;
  /** What lies between opening and footer. */
  data: Uint8Array;
  /**
   * `description`: the vmdescription gave the length and the footer was where it had to be.
   * `footer`: no description fits, the end is where a footer was found; it may be wrong.
   */
  delimitedBy: 'description' | 'footer';
  /** Present when the vmdescription describes this section. */
  description?: DeviceDescription;
}

/** Everything behind RAM's END section. */
export interface StreamTail {
  sections: DeviceSection[];
  commands: CommandEvent[];
  /** The sections and commands as they are in the stream, without EOF: can go verbatim into another stream. */
  sectionBytes: Uint8Array;
  /** Whether EOF was reached: without it the save did not finish. */
  complete: boolean;
  /** The description's JSON as it was; kept even where it cannot be read. */
  descriptionText?: string;
  description?: VmDescription;
  /** Whether the bytes end inside the description. QEMU loads such a file all the same. */
  descriptionCut: boolean;
  /** Bytes behind the last part of the stream. QEMU leaves none; padding is not among them. */
  trailingBytes: number;
  /** Zeros behind the last part of the stream, fewer than a sector: block devices and disk images are as long as their sectors. */
  paddingBytes: number;
  /** What was found wrong, in people's words. */
  problems: string[];
}

export interface SplitOptions {
  /** Where the tail starts, counted from the magic. 0 by default. */
  position?: number;
  /** Sections that started before the tail and may go on in it, see `StreamParser.started`. */
  started?: Iterable<SectionOpening>;
  /** Whether sections have footers, true by default. Without, only the vmdescription can delimit them. */
  footers?: boolean;
}

/**
 * Splits the tail of a stream into its parts. Never fails: what does not fit is told in `problems`, and the rest
 * is split all the same. The event loop turns meanwhile.
 *
 * @param tail all bytes behind RAM's END section, as the `tail` events gave them
 */
export function splitTail(tail: Uint8Array, options: SplitOptions = {}): Promise<StreamTail> {
  return inSlices(splitSteps(tail, options));
}

/** The same, for those who let the event loop turn themselves. */
export function* splitSteps(tail: Uint8Array, options: SplitOptions = {}): SlicedWork<StreamTail> {
  const { position = 0 } = options;
  const problems: string[] = [];
  const found = findVmDescription(tail);
  const result: StreamTail = {
    sections: [],
    commands: [],
    sectionBytes: tail,
    complete: false,
    descriptionCut: found !== undefined && found.end > tail.byteLength,
    trailingBytes: 0,
    paddingBytes: 0,
    problems,
  };
  if (result.descriptionCut) problems.push('the vmdescription is cut short');
  else if (found !== undefined) {
    const bytes = tail.subarray(found.start, found.end);
    const tooLong = yield* descriptionTooLong(bytes);
    if (tooLong !== undefined) problems.push(tooLong);
    else result.descriptionText = new TextDecoder().decode(copied(bytes));
    noteRest(result, tail.subarray(found.end));
  }
  if (result.descriptionText !== undefined) {
    try {
      result.description = yield* descriptionSteps(result.descriptionText);
    } catch (error) {
      problems.push(`the vmdescription cannot be read: ${errorReason(error)}`);
    }
  }
  const splitter = new Splitter(tail, options, result.description, problems);
  // With a description behind it, the place of EOF is certain: one byte before the description's type byte.
  const limit = found === undefined ? tail.byteLength : found.start - VMDESCRIPTION_HEADER_BYTES;
  const end = yield* splitter.run(limit, found === undefined);
  result.sections = splitter.sections;
  result.commands = splitter.commands;
  const eof = found === undefined ? end : limit - 1;
  result.complete = eof < tail.byteLength && tail[eof] === SectionType.EOF;
  result.sectionBytes = tail.subarray(0, eof);
  if (result.complete && found === undefined) noteRest(result, tail.subarray(eof + 1));
  if (!result.complete) problems.push('the stream ends without EOF: the save did not finish');
  else if (end !== eof) problems.push(`the sections end at ${position + end}, EOF is at ${position + eof}`);
  if (result.trailingBytes > 0) problems.push(`${result.trailingBytes} bytes follow the end of the stream`);
  return result;
}

function* descriptionTooLong(bytes: Uint8Array): SlicedWork<string | undefined> {
  const { VMDESCRIPTION_BYTES, WIDE_VMDESCRIPTION_BYTES } = StreamLimit;
  if (bytes.byteLength > VMDESCRIPTION_BYTES)
    return `the vmdescription has more than ${VMDESCRIPTION_BYTES} bytes`;
  if (bytes.byteLength > WIDE_VMDESCRIPTION_BYTES && !(yield* isAscii(bytes)))
    return `the vmdescription has more than ${WIDE_VMDESCRIPTION_BYTES} bytes, and is not ASCII`;
  return undefined;
}

function* isAscii(bytes: Uint8Array): SlicedWork<boolean> {
  for (let from = 0; from < bytes.byteLength; from += SLICE_LENGTH) {
    const slice = bytes.subarray(from, from + SLICE_LENGTH);
    for (const byte of slice) if (byte >= 0x80) return false;
    yield slice.byteLength;
  }
  return true;
}

/** The largest sector that disks have. */
const SECTOR_BYTES = 4096;

function noteRest(result: StreamTail, rest: Uint8Array): void {
  const isPadding = rest.byteLength < SECTOR_BYTES && rest.every((byte) => byte === 0);
  if (isPadding) result.paddingBytes = rest.byteLength;
  else result.trailingBytes = rest.byteLength;
}

/** Type byte and be32 length. */
const VMDESCRIPTION_HEADER_BYTES = 5;

/**
 * Where the description's JSON is; `end` is past the tail for one that is cut short. Its text holds no control
 * characters, so the last byte 06 is at its start or in its length.
 */
function findVmDescription(tail: Uint8Array): { start: number; end: number } | undefined {
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  for (
    let at = tail.lastIndexOf(SectionType.VMDESCRIPTION);
    at > 0;
    at = tail.lastIndexOf(SectionType.VMDESCRIPTION, at - 1)
  ) {
    const start = at + VMDESCRIPTION_HEADER_BYTES;
    if (start >= tail.byteLength || tail[at - 1] !== SectionType.EOF || tail[start] !== 0x7b) continue;
    const end = start + view.getUint32(at + 1);
    if (end > tail.byteLength ? isText(tail.subarray(start)) : tail[end - 1] === 0x7d) return { start, end };
  }
  return undefined;
}

function isText(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte >= 0x20 || byte === 0x0a);
}

const MAX_PARTS = StreamLimit.DEVICE_BYTES / StreamLimit.SECTION_BYTES;

class Splitter {
  readonly sections: DeviceSection[] = [];
  readonly commands: CommandEvent[] = [];
  private readonly view: DataView;
  private readonly started: Map<number, SectionOpening>;
  private readonly origin: number;
  private readonly footerBytes: number;

  constructor(
    private readonly tail: Uint8Array,
    { position = 0, started = [], footers = true }: SplitOptions,
    private readonly description: VmDescription | undefined,
    private readonly problems: string[],
  ) {
    this.view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
    this.origin = position;
    this.footerBytes = footers ? FOOTER_BYTES : 0;
    this.started = new Map(Array.from(started, (opening) => [opening.sectionId, opening]));
  }

  /**
   * Goes over sections and commands up to EOF or what cannot be read.
   *
   * @param limit first byte that cannot belong to a section or to EOF
   * @param openEnd whether EOF has to be recognised by being followed by nothing of the format
   * @returns where it stopped: at the EOF byte, in a sound tail
   */
  *run(limit: number, openEnd: boolean): SlicedWork<number> {
    let at = 0;
    let paused = 0;
    try {
      while (at < limit) {
        if (at - paused >= SLICE_LENGTH) {
          yield at - paused;
          paused = at;
        }
        const type = this.tail[at];
        if (type === SectionType.EOF) return at;
        if (this.sections.length + this.commands.length === MAX_PARTS) {
          this.problems.push(`more than ${MAX_PARTS} sections follow the RAM`);
          return at;
        }
        if (type === SectionType.COMMAND) at = this.command(at, limit);
        else at = this.section(at, limit, openEnd);
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.problems.push(`the part at ${this.origin + at} is cut short or damaged`);
    }
    return at;
  }

  private command(at: number, limit: number): number {
    const value = this.view.getUint16(at + 1);
    const length = this.view.getUint16(at + 3);
    const name = commandName(value);
    let end = at + 5 + length;
    if (end > limit) throw new RangeError('command');
    const data = this.tail.subarray(at + 5, end);
    const command: CommandEvent = { type: 'command', value, name, data, position: this.origin + at };
    if (name === 'packaged' && length === COMMANDS.packaged.length) {
      const size = this.view.getUint32(at + 5);
      if (end + size > limit) throw new RangeError('package');
      command.packaged = this.tail.subarray(end, end + size);
      end += size;
    }
    this.commands.push(command);
    return end;
  }

  private section(at: number, limit: number, openEnd: boolean): number {
    const kind = KINDS[this.tail[at] as number];
    if (kind === undefined) throw new RangeError('section type');
    const sectionId = this.view.getUint32(at + 1);
    let start = at + 5;
    let identity = { idstr: '', instanceId: 0, versionId: 0 };
    if (kind === 'start' || kind === 'full') {
      const idlen = this.view.getUint8(start);
      const name = start + 1;
      identity = {
        idstr: new TextDecoder().decode(copied(this.tail.subarray(name, name + idlen))),
        instanceId: this.view.getUint32(name + idlen),
        versionId: this.view.getUint32(name + idlen + 4),
      };
      start = name + idlen + 8;
    } else {
      const opening = this.started.get(sectionId);
      if (opening !== undefined) identity = opening;
    }
    const { idstr, instanceId, versionId } = identity;
    const section: DeviceSection = {
      kind,
      sectionId,
      idstr,
      instanceId,
      versionId,
      position: this.origin + at,
      data: this.tail.subarray(start, start),
      delimitedBy: 'footer',
    };
    this.started.set(sectionId, section);
    const described = kind === 'full' ? findDescription(this.description, idstr, instanceId) : undefined;
    if (described !== undefined) section.description = described;
    const end = this.describedEnd(section, start, limit) ?? this.searchedEnd(section, start, limit, openEnd);
    section.data = this.tail.subarray(start, end);
    this.sections.push(section);
    return end + this.footerBytes;
  }

  /** Where the data end by the description, if the footer is there. */
  private describedEnd(section: DeviceSection, start: number, limit: number): number | undefined {
    const { description, sectionId, idstr } = section;
    if (description === undefined) return undefined;
    const lengths = [describedBytes(description), description.size];
    for (const length of lengths) {
      if (length === undefined || !this.canEndAt(start + length, sectionId, limit)) continue;
      section.delimitedBy = 'description';
      return start + length;
    }
    if (!mayBeLonger(description))
      this.problems.push(`section ${idstr} is described with ${lengths[0]} bytes but does not end there`);
    return undefined;
  }

  /** Whether the section's footer is at `end`, or, without footers, something that can follow a section. */
  private canEndAt(end: number, sectionId: number, limit: number): boolean {
    if (end + this.footerBytes > limit) return false;
    const type = this.tail[end] as number;
    if (this.footerBytes === 0)
      return type === SectionType.EOF || type === SectionType.COMMAND || type in KINDS;
    return type === SectionType.FOOTER && this.view.getUint32(end + 1) === sectionId;
  }

  private searchedEnd(section: DeviceSection, start: number, limit: number, openEnd: boolean): number {
    if (this.footerBytes === 0) throw new RangeError('neither description nor footers');
    const most = Math.min(limit, start + StreamLimit.UNDELIMITED_SECTION_BYTES);
    const bytes = this.tail.subarray(start, most);
    const end = findFooter(bytes, section.sectionId, {
      from: 0,
      started: this.started,
      atEnd: openEnd || most === limit,
    });
    if (end === -1) throw new RangeError('section without footer');
    return start + end;
  }
}

const FOOTER_BYTES = 5;

const KINDS: Readonly<Record<number, SectionKind>> = {
  [SectionType.START]: 'start',
  [SectionType.PART]: 'part',
  [SectionType.END]: 'end',
  [SectionType.FULL]: 'full',
};

/** The description of the section called `idstr` with that instance id. */
export function findDescription(
  description: VmDescription | undefined,
  idstr: string,
  instanceId: number,
): DeviceDescription | undefined {
  return description && devicesByName(description).get(deviceKey(idstr, instanceId));
}

/** What tells a device from all others. */
export const deviceKey = (idstr: string, instanceId: number) => `${instanceId} ${idstr}`;

const knownDevices = new WeakMap<VmDescription, Map<string, DeviceDescription>>();

function devicesByName(description: VmDescription): Map<string, DeviceDescription> {
  let devices = knownDevices.get(description);
  if (devices === undefined) {
    // The first of two counts.
    devices = new Map(
      description.devices.toReversed().map((device) => [deviceKey(device.name, device.instanceId), device]),
    );
    knownDevices.set(description, devices);
  }
  return devices;
}

/** TextDecoder refuses views on shared memory. */
function copied(bytes: Uint8Array): Uint8Array {
  return bytes.buffer instanceof SharedArrayBuffer ? new Uint8Array(bytes) : bytes;
}
