/** A manifest's place: the last key of a vmdescription. */
import { MANIFEST_KEY } from '../mapped-ram/image.js';
import {
  type JsonEntry,
  JsonObject,
  parseDescriptionJson,
  parsePlainJson,
} from '../stream/description-json.js';
import { SectionType } from '../stream/format.js';
import { isSoleKey } from '../stream/vmdescription.js';
import { appendDescriptionKey } from '../stream/vmdescription-text.js';
import type { Manifest } from './manifest.js';

/** What stands before the root's value, which is the last place of its kind. */
const ROOT_MARK = '"root":"';

/** The description as it goes into the file behind EOF: type byte, be32 length, JSON. */
export function describeWithManifest(vmdescription: string | undefined, manifest: Manifest): Buffer {
  const text = Buffer.from(appendDescriptionKey(vmdescription, MANIFEST_KEY, manifest));
  const header = Buffer.alloc(5);
  header[0] = SectionType.VMDESCRIPTION;
  header.writeUInt32BE(text.length, 1);
  return Buffer.concat([header, text]);
}

/** What of such bytes the root covers: everything up to its own value. */
export function coveredByRoot(description: Buffer): Buffer {
  return description.subarray(0, description.lastIndexOf(ROOT_MARK) + ROOT_MARK.length);
}

/** The manifest of a description, as text. */
export interface FoundManifest {
  /** Where its value lies: `text.slice(start, end)`. */
  start: number;
  end: number;
  /** What is wrong with its place. */
  problem?: string;
}

/** Finds the manifest of a description, also one whose key was damaged. `undefined` where there is none. */
export function findManifest(text: string): FoundManifest | undefined {
  const plain = findPlainly(text);
  if (plain !== undefined) return plain;
  let entries: readonly JsonEntry[];
  try {
    const root = parseDescriptionJson(text);
    entries = root instanceof JsonObject ? root.entries : [];
  } catch {
    return undefined;
  }
  const [found, another] = entries.filter(({ key }) => key === MANIFEST_KEY);
  if (found === undefined) {
    const renamed = entries.find(({ value }) => value instanceof JsonObject && value.entry('root'));
    return renamed && { ...renamed, problem: `its key reads ${JSON.stringify(renamed.key)}` };
  }
  if (another !== undefined) return { ...found, problem: 'there are two' };
  if (found !== entries.at(-1)) return { ...found, problem: 'something follows it in the vmdescription' };
  return found;
}

/**
 * The same in a fraction of the time where it is where mapram puts it: the one key of its name, the last one, its value written
 * as mapram writes it. `undefined` where any of that cannot be told at once.
 */
function findPlainly(text: string): FoundManifest | undefined {
  try {
    const root = parsePlainJson(text) as Record<string, unknown>;
    const found = root[MANIFEST_KEY];
    if (Object.keys(root).at(-1) !== MANIFEST_KEY || !isSoleKey(MANIFEST_KEY, found, text)) return undefined;
    const value = JSON.stringify(found);
    const end = text.lastIndexOf('}');
    const start = end - value.length;
    return text.slice(start, end) === value ? { start, end } : undefined;
  } catch {
    return undefined;
  }
}

/** A description without its manifest, as the source of the migration wrote it. */
export function withoutManifest(text: string): string {
  const quoted = JSON.stringify(MANIFEST_KEY);
  if (!(text.includes('\\') || text.includes(quoted))) return text;
  const found = findManifest(text);
  if (found === undefined || found.problem !== undefined) return text;
  const before = text.slice(0, text.lastIndexOf(quoted, found.start)).trimEnd();
  return `${before.endsWith(',') ? before.slice(0, -1) : before}${text.slice(found.end)}`;
}
