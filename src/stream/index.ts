/**
 * The migration stream itself: parser, writer, device state. Bytes in, values out; nothing here opens a file or a socket.
 *
 * @module mapram/stream
 */

export type { StreamConfiguration } from './configuration.js';
export {
  type DecodedDevice,
  type DecodedField,
  type DecodedStruct,
  type DecodedValue,
  decodeDevice,
} from './device-decoder.js';
export { type DeviceSection, type SplitOptions, type StreamTail, splitTail } from './device-sections.js';
export { type DeviceValue, deviceValues } from './device-values.js';
export { decodeLibvirtHeader, type LibvirtHeader } from './libvirt-header.js';
export type { StreamEvent } from './stream-event.js';
export { StreamParser, type StreamParserOptions } from './stream-parser.js';
export { readStream, readStreamSync } from './stream-reader.js';
export { type SectionOpening, StreamWriter } from './stream-writer.js';
export { type DeviceDescription, parseVmDescription, type VmDescription } from './vmdescription.js';
