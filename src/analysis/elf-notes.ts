/**
 * ELF notes.
 *
 * ```text
 * u32 namesz   with NUL
 * u32 descsz
 * u32 type
 * name, padded to 4 bytes
 * desc, padded to 4 bytes
 * ```
 */
export function elfNote(name: string, type: number, description: Uint8Array): Buffer {
  const text = Buffer.from(`${name}\0`);
  const header = Buffer.alloc(12);
  header.writeUInt32LE(text.length, 0);
  header.writeUInt32LE(description.byteLength, 4);
  header.writeUInt32LE(type, 8);
  return Buffer.concat([header, padded(text), padded(description)]);
}

function padded(bytes: Uint8Array): Buffer {
  const length = Math.ceil(bytes.byteLength / 4) * 4;
  return Buffer.concat([bytes, Buffer.alloc(length - bytes.byteLength)], length);
}
