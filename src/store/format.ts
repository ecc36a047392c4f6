/**
 * The shape of a store, and the bound of every length in it. docs/store-format.md has all of it byte by byte.
 *
 * ```text
 * store.json                 what kind of store this is, and its wrapped key
 * roots/NAME/ID              one snapshot: its files, the top of each file's page table, the packs it needs
 * packs/SHA-256              frames, one behind the other: compressed chunks, and the nodes of page tables
 * pushes/PUSH.ATTEMPT        a push that is under way, and the packs that it builds upon
 *
 *   root ──► top node ──► node ──► … ──► chunk          file offset = chunk number × 64 KiB
 *            level L      level L-1      level 0        each arrow: name, pack, offset, length
 * ```
 */
import { MapramError } from '../errors.js';

export const STORE_FORMAT = 1;

/** Bytes of a file that one chunk stands for: 16 pages. The last chunk of a file may be shorter. */
export const CHUNK_BYTES = 64 << 10;
/** Entries of a node. A node of level 1 covers 64 MiB of a file, one of level 2 64 GiB, one of level 3 64 TiB. */
export const NODE_ENTRIES = 1024;
export const MAXIMUM_LEVELS = 3;
/** 2^53 - 1 is the largest offset that is a safe integer; the page table ends long before. */
export const MAXIMUM_FILE_BYTES = CHUNK_BYTES * NODE_ENTRIES ** MAXIMUM_LEVELS;

/** Bytes of a chunk's or node's name: SHA-256, or HMAC-SHA-256 in an encrypted store. */
export const NAME_BYTES = 32;

/** A pack is closed when it has this many bytes: parts of a push then travel side by side, and memory stays small. */
export const PACK_TARGET_BYTES = 16 << 20;
/** No reader takes a larger one. */
export const MAXIMUM_PACK_BYTES = 64 << 20;
/** Packs of one snapshot. */
export const MAXIMUM_PACKS = 1 << 20;

/** Objects that are read whole. */
export const MAXIMUM_ROOT_BYTES = 128 << 20;
export const MAXIMUM_CONFIG_BYTES = 1 << 20;
export const MAXIMUM_CLAIM_BYTES = 128 << 20;
/** What a root's sealed part may decompress to: a manifest may have digests of many GiB. */
export const MAXIMUM_SEALED_BYTES = 256 << 20;
/** Files of one snapshot: the VM's state and its disks. */
export const MAXIMUM_FILES = 256;

/** Parallel requests to a place. */
export const PARALLEL_REQUESTS = 8;

export const CONFIG_KEY = 'store.json';
export const packKey = (id: string): string => `packs/${id}`;
export const rootKey = (name: string, id: string): string => `roots/${name}/${id}`;
export const claimKey = (push: string, attempt: string): string => `pushes/${push}.${attempt}`;

export const PACK_KEY = /^packs\/([0-9a-f]{64})$/;
export const ROOT_KEY = /^roots\/([^/]+)\/([^/]+)$/;
export const CLAIM_KEY = /^pushes\/([0-9a-f]{32})\.([0-9a-f]{16})$/;

/** Also a tag of a registry, together with an ID: at most 128 characters of these. */
const SNAPSHOT_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/;
/** `20261129T165713123Z-1a2b3c4d`: when it was pushed, in UTC, and 32 random bits. Sorts by time. */
export const SNAPSHOT_ID = /^\d{8}T\d{9}Z-[0-9a-f]{8}$/;
/** The name of a disk's file inside a snapshot: one part of a path, and not one that leads elsewhere. */
const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$/;

export const isSnapshotName = (text: string): boolean => SNAPSHOT_NAME.test(text);
export const isFileName = (text: string): boolean => FILE_NAME.test(text);

/** @param now ms since 1970; @param random 8 hexadecimal digits */
export function snapshotId(now: number, random: string): string {
  return `${new Date(now).toISOString().replaceAll(/[-:.]/g, '')}-${random}`;
}

/** When a snapshot with this ID was pushed: ms since 1970. */
export function timeOfId(id: string): number {
  const [, year, month, day, hour, minute, second, ms] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z/.exec(id) ?? [];
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${ms}Z`);
}

/** Levels of the page table over a file; at least one. */
export function levelsFor(fileBytes: number): number {
  let levels = 1;
  for (let chunks = NODE_ENTRIES; chunks * CHUNK_BYTES < fileBytes; chunks *= NODE_ENTRIES) levels += 1;
  return levels;
}

/** Bytes of a chunk: all have 64 KiB but the last of a file. */
export function chunkLength(chunk: number, fileBytes: number): number {
  return Math.min(CHUNK_BYTES, fileBytes - chunk * CHUNK_BYTES);
}

/** Something in a store that is not as it must be. */
export function damaged(where: string, what: string, cause?: unknown): MapramError {
  return new MapramError('FORMAT', `reading ${where}: ${what}`, { path: where, cause });
}
