/** A manifest's place: the last key of a vmdescription. */
import { defined } from '../defined.js';
import { MANIFEST_KEY } from '../mapped-ram/image.js';
import { parsePlainJson } from '../stream/description-json.js';
import { type KeyExtent, outlineSteps } from '../stream/description-outline.js';
import { SectionType } from '../stream/format.js';
import { inSlices } from '../stream/slices.js';
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
  /** Where what is before it ends: the value of the key before, or the brace. */
  before: number;
  /** What is wrong with its place. */
  problem?: string;
}

/** Finds the manifest of a description, also one whose key was damaged. `undefined` where there is none. */
export async function findManifest(text: string): Promise<FoundManifest | undefined> {
  let keys: readonly KeyExtent[];
  try {
    ({ keys } = await inSlices(outlineSteps(text)));
  } catch {
    return undefined;
  }
  const placed = (extent: KeyExtent, problem?: string): FoundManifest => ({
    start: extent.start,
    end: extent.end,
    before: keys[keys.indexOf(extent) - 1]?.end ?? text.indexOf('{') + 1,
    ...defined({ problem }),
  });
  const [found, another] = keys.filter(({ key }) => key === MANIFEST_KEY);
  if (found === undefined) {
    const renamed = keys.find((extent) => !QEMU_KEYS.has(extent.key) && isManifest(text, extent));
    return renamed && placed(renamed, `its key reads ${JSON.stringify(renamed.key)}`);
  }
  if (another !== undefined) return placed(found, 'there are two');
  return placed(found, found === keys.at(-1) ? undefined : 'something follows it in the vmdescription');
}

const QEMU_KEYS: ReadonlySet<string> = new Set(['configuration', 'page_size', 'devices']);

function isManifest(text: string, { start, end }: KeyExtent): boolean {
  const json = text.slice(start, end);
  if (!json.includes('"root"')) return false;
  try {
    const value = parsePlainJson(json);
    return typeof value === 'object' && value !== null && Object.hasOwn(value, 'root');
  } catch {
    return false;
  }
}

/** A description without its manifest, as the source of the migration wrote it. */
export async function withoutManifest(text: string): Promise<string> {
  const quoted = JSON.stringify(MANIFEST_KEY);
  if (!(text.includes('\\') || text.includes(quoted))) return text;
  const found = await findManifest(text);
  if (found === undefined || found.problem !== undefined) return text;
  return `${text.slice(0, found.before)}${text.slice(found.end)}`;
}
