/**
 * The messages of FUSE that a read-only file system needs, as in the kernel's include/uapi/linux/fuse.h, protocol 7.31.
 *
 * ```text
 * request   0  4  length, this header included     reply   0  4  length, this header included
 *           4  4  opcode                                   4  4  0, or a negative errno
 *           8  8  unique                                   8  8  unique, of the request
 *          16  8  node                                    16  …  what the opcode answers
 *          24  4  uid
 *          28  4  gid                              INIT   0  4  major          READ   0  8  handle
 *          32  4  thread that asks, 0 for none            4  4  minor                 8  8  offset
 *          36  4  (lengths of extensions)                 8  4  maximum readahead    16  4  length
 *          40  …  what the opcode asks                   12  4  flags                20  …  (flags, owner)
 *                                                        16  4  flags, high half
 * ```
 *
 * Integers are of the host's byte order, which is little-endian on every architecture that mapram runs on.
 */

export const OPCODE = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
} as const;

export const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
export const ROOT_NODE = 1;

const MAJOR = 7;
const MINOR = 31;
/** Flags of INIT. */
const ASYNC_READ = 1 << 0;
const PARALLEL_DIROPS = 1 << 18;
const MAX_PAGES = 1 << 22;
/** Nothing is written; the kernel wants room for this much in every read of the device all the same. */
const MAXIMUM_WRITE = 4096;
/** A request that is read has at most this many bytes (FUSE_MIN_READ_BUFFER is 8192). */
export const REQUEST_BYTES = 16 << 10;
/** The longest READ, in pages. */
const MAXIMUM_PAGES = 256;
const BACKGROUND_REQUESTS = 64;
/** Since Linux 6.9: sends again every request that was read and not answered. A reply without a request: `unique` is 0. */
const NOTIFY_RESEND = 7;

const FOPEN_KEEP_CACHE = 2;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const DT_DIR = 4;
const DT_REG = 8;
/** Nothing ever changes: names and attributes may be kept for a day. */
const VALID_S = 86_400n;
const BLOCK_BYTES = 512;

export interface FuseRequest {
  readonly opcode: number;
  /** Echoed in the reply; the kernel marks those that it sends again in its highest bit. */
  readonly unique: bigint;
  readonly node: bigint;
  /** The thread that asks, in the PID namespace of whoever mounted; 0 where the kernel asks by itself. */
  readonly pid: number;
  /** What follows the header. */
  readonly body: Buffer;
}

/** @returns undefined for bytes that are no request */
export function decodeRequest(bytes: Buffer): FuseRequest | undefined {
  if (bytes.length < IN_HEADER_BYTES || bytes.readUInt32LE(0) !== bytes.length) return undefined;
  return {
    opcode: bytes.readUInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    node: bytes.readBigUInt64LE(16),
    pid: bytes.readUInt32LE(32),
    body: bytes.subarray(IN_HEADER_BYTES),
  };
}

/** @param errno positive, 0 for success */
export function replyHeader(unique: bigint, errno: number, bodyBytes: number): Buffer {
  const header = Buffer.alloc(OUT_HEADER_BYTES);
  header.writeUInt32LE(OUT_HEADER_BYTES + bodyBytes, 0);
  header.writeInt32LE(-errno, 4);
  header.writeBigUInt64LE(unique, 8);
  return header;
}

export function resendNotification(): Buffer {
  const message = Buffer.alloc(OUT_HEADER_BYTES);
  message.writeUInt32LE(OUT_HEADER_BYTES, 0);
  message.writeInt32LE(NOTIFY_RESEND, 4);
  return message;
}

/** The answer to INIT: `struct fuse_init_out`. */
export function initReply(body: Buffer): Buffer {
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(MAJOR, 0);
  reply.writeUInt32LE(MINOR, 4);
  reply.writeUInt32LE(body.readUInt32LE(8), 8);
  reply.writeUInt32LE(body.readUInt32LE(12) & (ASYNC_READ | PARALLEL_DIROPS | MAX_PAGES), 12);
  reply.writeUInt16LE(BACKGROUND_REQUESTS, 16);
  reply.writeUInt16LE((BACKGROUND_REQUESTS * 3) / 4, 18);
  reply.writeUInt32LE(MAXIMUM_WRITE, 20);
  reply.writeUInt32LE(1, 24);
  reply.writeUInt16LE(MAXIMUM_PAGES, 28);
  return reply;
}

/** What `stat` reports. */
export interface FuseAttributes {
  readonly node: bigint;
  readonly isDirectory: boolean;
  readonly bytes: number;
  /** ms since 1970, of all three times. */
  readonly timeMs: number;
  readonly uid: number;
  readonly gid: number;
}

/** `struct fuse_attr`, 88 bytes. */
function encodeAttributes({ node, isDirectory, bytes, timeMs, uid, gid }: FuseAttributes): Buffer {
  const attributes = Buffer.alloc(88);
  attributes.writeBigUInt64LE(node, 0);
  attributes.writeBigUInt64LE(BigInt(bytes), 8);
  attributes.writeBigUInt64LE(BigInt(Math.ceil(bytes / BLOCK_BYTES)), 16);
  for (const at of [24, 32, 40]) attributes.writeBigUInt64LE(BigInt(Math.floor(timeMs / 1000)), at);
  for (const at of [48, 52, 56]) attributes.writeUInt32LE(Math.floor(timeMs % 1000) * 1_000_000, at);
  attributes.writeUInt32LE(isDirectory ? S_IFDIR | 0o500 : S_IFREG | 0o400, 60);
  attributes.writeUInt32LE(isDirectory ? 2 : 1, 64);
  attributes.writeUInt32LE(uid, 68);
  attributes.writeUInt32LE(gid, 72);
  attributes.writeUInt32LE(4096, 80);
  return attributes;
}

/** The answer to GETATTR: `struct fuse_attr_out`. */
export function attributesReply(attributes: FuseAttributes): Buffer {
  const head = Buffer.alloc(16);
  head.writeBigUInt64LE(VALID_S, 0);
  return Buffer.concat([head, encodeAttributes(attributes)]);
}

/** The answer to LOOKUP: `struct fuse_entry_out`. */
export function entryReply(attributes: FuseAttributes): Buffer {
  const head = Buffer.alloc(40);
  head.writeBigUInt64LE(attributes.node, 0);
  head.writeBigUInt64LE(VALID_S, 16);
  head.writeBigUInt64LE(VALID_S, 24);
  return Buffer.concat([head, encodeAttributes(attributes)]);
}

/** The answer to OPEN and OPENDIR: `struct fuse_open_out`. Pages that the kernel has stay valid from one open to the next. */
export function openReply(): Buffer {
  const reply = Buffer.alloc(16);
  reply.writeUInt32LE(FOPEN_KEEP_CACHE, 8);
  return reply;
}

/** The answer to STATFS: `struct fuse_kstatfs`. The file system is full: nothing can be written. */
export function statfsReply(bytes: number): Buffer {
  const reply = Buffer.alloc(80);
  reply.writeBigUInt64LE(BigInt(Math.ceil(bytes / 4096)), 0);
  reply.writeUInt32LE(4096, 40);
  reply.writeUInt32LE(255, 44);
  reply.writeUInt32LE(4096, 48);
  return reply;
}

export interface ReadRequest {
  readonly offset: number;
  readonly length: number;
}

/** Of READ and READDIR: `struct fuse_read_in`. */
export function decodeRead(body: Buffer): ReadRequest | undefined {
  if (body.length < 20) return undefined;
  const offset = Number(body.readBigUInt64LE(8));
  return Number.isSafeInteger(offset) ? { offset, length: body.readUInt32LE(16) } : undefined;
}

/** The name in LOOKUP, with a zero byte behind it. */
export function decodeName(body: Buffer): string {
  const end = body.indexOf(0);
  return body.toString('utf8', 0, end < 0 ? body.length : end);
}

/** One `struct fuse_dirent`, padded to 8 bytes. @param next offset by which READDIR asks for what follows */
export function directoryEntry(name: string, node: bigint, next: number, isDirectory: boolean): Buffer {
  const bytes = Buffer.from(name);
  const entry = Buffer.alloc(Math.ceil((24 + bytes.length) / 8) * 8);
  entry.writeBigUInt64LE(node, 0);
  entry.writeBigUInt64LE(BigInt(next), 8);
  entry.writeUInt32LE(bytes.length, 16);
  entry.writeUInt32LE(isDirectory ? DT_DIR : DT_REG, 20);
  entry.set(bytes, 24);
  return entry;
}
