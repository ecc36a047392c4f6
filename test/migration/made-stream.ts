/** Migration streams made by hand: the main channel and multifd channels of a small VM that exists nowhere. */
import { encodeGlobalState } from '../../src/stream/global-state.js';
import {
  encodeMultifdInitialPacket,
  encodeMultifdPacketHeader,
  type MultifdPacketHeader,
} from '../../src/stream/multifd-packet.js';
import { StreamWriter } from '../../src/stream/stream-writer.js';

export const pageSize = 4096;
export const pageCount = 64;
export const blockName = 'made.ram';
export const machine = 'made-9.0';
const ramSectionId = 2;

/** A page that tells what it is: its number and a value, all over. */
export function pageOf(page: number, value: number): Buffer {
  const bytes = Buffer.alloc(pageSize);
  for (let at = 0; at < pageSize; at += 8) {
    bytes.writeUInt32LE(page + 1, at);
    bytes.writeUInt32LE(value, at + 4);
  }
  return bytes;
}

export interface MainChannelParts {
  /** RAM block list, up to the EOS of the START section. */
  opening: Uint8Array;
  /** One PART section with whatever records. */
  part(write: (writer: StreamWriter) => void): Uint8Array;
  /** END section, devices, EOF, description. */
  closing: Uint8Array;
}

/** @param flush whether MULTIFD_FLUSH records are the sync marks */
export function mainChannel({ flush = false, usedLength = pageCount * pageSize } = {}): MainChannelParts {
  const opening = new StreamWriter()
    .header()
    .configuration({ machine, capabilities: [] })
    .ramStart(ramSectionId)
    .ramBlocks([{ idstr: blockName, usedLength }]);
  if (flush) opening.multifdFlush();
  opening.ramEos().sectionFooter(ramSectionId);
  const closing = new StreamWriter().sectionEnd(ramSectionId);
  if (flush) closing.multifdFlush();
  closing.ramEos().sectionFooter(ramSectionId);
  closing.sectionFull(
    { sectionId: 7, idstr: 'globalstate', instanceId: 0, versionId: 1 },
    encodeGlobalState('running'),
  );
  closing.eof().vmdescription('{"page_size": 4096, "devices": []}');
  return {
    opening: opening.drainBytes(),
    part(write) {
      const part = new StreamWriter().sectionPart(ramSectionId);
      write(part);
      return part.ramEos().sectionFooter(ramSectionId).drainBytes();
    },
    closing: closing.drainBytes(),
  };
}

export const noUuid = new Uint8Array(16);

export const initialPacket = (channel: number, uuid: Uint8Array = noUuid): Uint8Array =>
  encodeMultifdInitialPacket({ channel, uuid });

/** A data packet with these pages, its header changed as wanted. */
export function packet(
  pages: readonly { page: number; contents: Buffer }[],
  change: Partial<MultifdPacketHeader> = {},
): Uint8Array {
  const header: MultifdPacketHeader = {
    sync: false,
    method: 'none',
    packetNumber: 0n,
    block: blockName,
    normalOffsets: pages.map(({ page }) => page * pageSize),
    zeroOffsets: [],
    payloadBytes: pages.length * pageSize,
    ...change,
  };
  return Buffer.concat([
    encodeMultifdPacketHeader(header, pageSize),
    ...pages.map(({ contents }) => contents),
  ]);
}

export const syncPacket = (): Uint8Array => packet([], { sync: true, block: '' });
