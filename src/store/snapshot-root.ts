/**
 * The root of one snapshot: `roots/NAME/ID`. Written last and in one step, so a snapshot is there whole or not at all.
 *
 * ```text
 * 0       8   "MPRAMRT1"
 * 8       4   C: length of the open part, little-endian
 * 12      4   S: length of the sealed part
 * 16      C   open part, JSON: what prune and `list` need without a key
 *               {"store","name","id","packs":[{"id","bytes"}],"fileBytes","dataBytes"}
 * 16+C    S   sealed part: 32 bytes of name, and a frame of JSON, see frame-codec.ts
 *               {"parent"?,"files":[{"role","name","bytes","dataBytes","levels","top"}],"manifest"?}
 * 16+C+S  32  SHA-256, or in an encrypted store HMAC-SHA-256, of everything before
 * ```
 */

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import * as v from 'valibot';
import { defined } from '../defined.js';
import {
  damaged,
  isFileName,
  isSnapshotName,
  levelsFor,
  MAXIMUM_FILE_BYTES,
  MAXIMUM_FILES,
  MAXIMUM_PACK_BYTES,
  MAXIMUM_PACKS,
  MAXIMUM_SEALED_BYTES,
  SNAPSHOT_ID,
} from './format.js';
import type { FrameCodec } from './frame-codec.js';
import { PageNode } from './page-node.js';
import { issueOf, parseJson } from './store-config.js';
import { locked, type StoreKeys } from './store-keys.js';

const MAGIC = 'MPRAMRT1';
const HEAD_BYTES = 16;
const DIGEST_BYTES = 32;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const name = v.pipe(v.string(), v.check(isSnapshotName, 'not a name'));
const id = v.pipe(v.string(), v.regex(SNAPSHOT_ID));

const OpenSchema = v.strictObject({
  store: v.pipe(v.string(), v.uuid()),
  name,
  id,
  packs: v.pipe(
    v.array(
      v.strictObject({
        id: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
        bytes: v.pipe(count, v.maxValue(MAXIMUM_PACK_BYTES)),
      }),
    ),
    v.maxLength(MAXIMUM_PACKS),
  ),
  /** Of all files together: their lengths, and what of it is stored in chunks. */
  fileBytes: count,
  dataBytes: count,
});

const SealedSchema = v.strictObject({
  /** What it was compared with when it was pushed: NAME@ID. */
  parent: v.exactOptional(v.string()),
  files: v.pipe(
    v.array(
      v.strictObject({
        /** `state`: the saved VM itself, the first file. `disk`: anything that belongs to it. */
        role: v.picklist(['state', 'disk']),
        name: v.pipe(v.string(), v.check(isFileName, 'not the name of a file')),
        bytes: v.pipe(count, v.maxValue(MAXIMUM_FILE_BYTES)),
        dataBytes: count,
        levels: count,
        /** The top node, base64; absent where all of the file is zero. */
        top: v.exactOptional(v.string()),
      }),
    ),
    v.minLength(1),
    v.maxLength(MAXIMUM_FILES),
  ),
  /** As it stands in the file: data to be shown, of which nothing is acted upon. */
  manifest: v.exactOptional(v.record(v.string(), v.unknown())),
});

export type OpenPart = v.InferOutput<typeof OpenSchema>;
export type PackUse = OpenPart['packs'][number];
type SealedPart = v.InferOutput<typeof SealedSchema>;

/** A file of a snapshot, with the top of its page table. */
export interface StoredFile {
  readonly role: 'state' | 'disk';
  readonly name: string;
  readonly bytes: number;
  /** Bytes of it that are in chunks; the rest is zero. */
  readonly dataBytes: number;
  readonly levels: number;
  readonly top: PageNode;
}

export interface SnapshotRoot extends OpenPart {
  readonly parent?: string;
  /** The saved VM first. */
  readonly files: readonly StoredFile[];
  readonly manifest?: Readonly<Record<string, unknown>>;
}

export function encodeRoot(root: SnapshotRoot, codec: FrameCodec, keys: StoreKeys | undefined): Buffer {
  const { parent, files, manifest, ...open } = root;
  const sealedPart: SealedPart = {
    ...defined({ parent }),
    files: files.map(({ top, ...file }) => ({
      ...file,
      ...defined({ top: top.isEmpty ? undefined : top.encode().toString('base64') }),
    })),
    ...defined({ manifest }),
  };
  const openBytes = Buffer.from(JSON.stringify(open));
  const sealedBytes = Buffer.from(JSON.stringify(sealedPart));
  const digest = codec.name('root', sealedBytes);
  const sealed = Buffer.concat([digest, codec.encode(digest, sealedBytes)]);
  const head = Buffer.alloc(HEAD_BYTES);
  head.write(MAGIC, 'latin1');
  head.writeUInt32LE(openBytes.length, 8);
  head.writeUInt32LE(sealed.length, 12);
  const body = Buffer.concat([head, openBytes, sealed]);
  return Buffer.concat([body, rootDigest(body, keys)]);
}

/** What of a root can be read without a key, and the rest as it lies there. */
export interface RawRoot {
  readonly open: OpenPart;
  readonly bytes: Buffer;
  readonly sealed: Buffer;
}

/**
 * Reads the open part, and holds the root against its digest where that can be done.
 *
 * @param expected what the place calls it, and the store that is open
 * @param keys of an encrypted store, if they are there; `unknown` where the store is encrypted and they are not
 * @throws MapramError `FORMAT` for damage, for a root of another store and for one that stands in another's place
 */
export function readRoot(
  bytes: Buffer,
  where: string,
  expected: { store: string; name: string; id: string },
  keys: StoreKeys | undefined | 'unknown',
): RawRoot {
  if (bytes.length < HEAD_BYTES + DIGEST_BYTES || bytes.toString('latin1', 0, 8) !== MAGIC)
    throw damaged(where, 'it is not the root of a snapshot');
  const sealedStart = HEAD_BYTES + bytes.readUInt32LE(8);
  const end = sealedStart + bytes.readUInt32LE(12);
  if (bytes.length !== end + DIGEST_BYTES)
    throw damaged(where, 'its length does not fit its head: it was cut short or changed');
  const open = parseOpen(bytes.subarray(HEAD_BYTES, sealedStart), where);
  if (open.store !== expected.store) {
    throw damaged(
      where,
      `it belongs to another store (${open.store}): a root was copied here, or store.json was changed`,
    );
  }
  if (open.name !== expected.name || open.id !== expected.id) {
    throw damaged(where, `it is the root of ${open.name}@${open.id}, which was put in this place`);
  }
  if (keys !== 'unknown') {
    const digest = rootDigest(bytes.subarray(0, end), keys);
    if (!timingSafeEqual(digest, bytes.subarray(end)))
      throw damaged(where, keys ? 'it was changed, or made with another key' : 'it was changed');
  }
  return { open, bytes, sealed: bytes.subarray(sealedStart, end) };
}

function parseOpen(bytes: Buffer, where: string): OpenPart {
  const result = v.safeParse(OpenSchema, parseJson(bytes, where));
  if (result.success) return result.output;
  throw damaged(where, `${issueOf(result.issues[0])} is not as it must be`);
}

/**
 * @throws MapramError `KEY` where the store is encrypted and the key is not there, `FORMAT`
 */
export function unsealRoot(
  { open, sealed }: RawRoot,
  where: string,
  codec: FrameCodec | undefined,
): SnapshotRoot {
  if (codec === undefined) throw locked(where);
  const digest = sealed.subarray(0, DIGEST_BYTES);
  const json = codec.decode('root', digest, sealed.subarray(DIGEST_BYTES), MAXIMUM_SEALED_BYTES);
  if (typeof json === 'string') throw damaged(where, `its sealed part is damaged: ${json}`);
  const result = v.safeParse(SealedSchema, parseJson(json, where));
  if (!result.success) throw damaged(where, `${issueOf(result.issues[0])} is not as it must be`);
  const { parent, files, manifest } = result.output;
  if (
    files.findIndex(({ role }) => role === 'state') !== 0 ||
    files.filter(({ role }) => role === 'state').length > 1
  )
    throw damaged(where, 'its first file, and no other, must be the saved VM');
  if (new Set(files.map((file) => file.name)).size < files.length)
    throw damaged(where, 'two of its files have the same name');
  return {
    ...open,
    ...defined({ parent }),
    files: files.map((file) => storedFile(file, where)),
    ...defined({ manifest }),
  };
}

function storedFile({ top, ...file }: SealedPart['files'][number], where: string): StoredFile {
  const levels = levelsFor(file.bytes);
  if (file.levels !== levels)
    throw damaged(where, `the page table of ${file.name} has ${file.levels} levels, not ${levels}`);
  if (top === undefined) return { ...file, top: new PageNode(levels) };
  const node = PageNode.decode(Buffer.from(top, 'base64'), levels);
  if (typeof node === 'string') throw damaged(where, `the top node of ${file.name} is damaged: ${node}`);
  return { ...file, top: node };
}

function rootDigest(body: Buffer, keys: StoreKeys | undefined): Buffer {
  const hash = keys === undefined ? createHash('sha256') : createHmac('sha256', keys.roots);
  return hash.update(body).digest();
}
