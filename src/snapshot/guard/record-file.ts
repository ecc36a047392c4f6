import { writeFully } from '../../io/file/positional-io.js';
import { writeJson } from '../../json/json-writer.js';

/**
 * Replaces what a record says. A process that is killed here leaves the old record or the new one: it is one write, with blanks over what
 * was longer before.
 *
 * @param length of the file, in bytes
 * @returns its length from now on
 */
export function rewriteRecord(fd: number, record: object, length: number): number {
  const text = writeJson(record);
  const bytes = Buffer.alloc(Math.max(length, Buffer.byteLength(text)), ' ');
  bytes.write(text);
  writeFully(fd, bytes, 0);
  return bytes.length;
}
