/**
 * Answers the kernel's requests for a read-only tree of files.
 *
 * It keeps no state between requests: node numbers follow from the tree, handles are not used. So a server that was killed can be
 * replaced by another one with the same descriptor and the same tree, and whoever waits in a page fault never notices.
 */
import { read, writevSync } from 'node:fs';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { hasErrno } from '../io/system-error.js';
import {
  attributesReply,
  decodeName,
  decodeRead,
  decodeRequest,
  directoryEntry,
  entryReply,
  type FuseAttributes,
  type FuseRequest,
  initReply,
  OPCODE,
  openReply,
  REQUEST_BYTES,
  ROOT_NODE,
  replyHeader,
  resendNotification,
  statfsReply,
} from './fuse-protocol.js';

const { EINTR, EIO, EISDIR, ENOENT, ENOSYS, ENOTDIR } = constants.errno;
/** Reads of the device under way: one would let a request wait while the one before it is looked at. */
const READERS = 2;
/** The longest read that is answered: 256 pages of 4 KiB, as INIT says. */
const MAXIMUM_READ = 1 << 20;

/** A file that can be read at any place. */
export interface FuseFile {
  readonly name: string;
  readonly bytes: number;
  /**
   * @param length such that the range lies in the file
   * @param pid the thread that asks, 0 where the kernel does by itself
   * @throws what becomes EIO: SIGBUS for a process that has the file mapped
   */
  read(offset: number, length: number, pid: number): Promise<Uint8Array>;
}

export interface FuseDirectory {
  readonly name: string;
  readonly entries: readonly (FuseDirectory | FuseFile)[];
}

interface Node {
  readonly number: bigint;
  readonly entry: FuseDirectory | FuseFile;
  readonly parent: bigint;
  readonly children: Map<string, Node>;
}

export interface FuseServerOptions {
  /** ms since 1970: what `stat` reports for all files. */
  readonly timeMs: number;
  /** Called with what a read has thrown, before it becomes EIO. */
  readonly onFailure?: (error: unknown) => void;
  /** Called for each request. */
  readonly onRequest?: () => void;
}

const readDevice = promisify(read);

export class FuseServer {
  readonly #nodes = new Map<bigint, Node>();
  /** Reads under way, by `unique`. */
  readonly #reads = new Map<bigint, { answered: boolean }>();
  readonly #bytes: number;

  constructor(
    private readonly fd: number,
    root: FuseDirectory,
    private readonly options: FuseServerOptions,
  ) {
    this.#add(root, BigInt(ROOT_NODE));
    this.#bytes = [...this.#nodes.values()].reduce((sum, { entry }) => sum + bytesOf(entry), 0);
  }

  /** Serves until the file system is unmounted. @throws the system error of a device that cannot be read */
  async serve(): Promise<void> {
    await Promise.all(Array.from({ length: READERS }, () => this.#readRequests()));
  }

  /**
   * Has the kernel send all requests again that an earlier server has read and not answered.
   *
   * @returns false where the kernel does not offer that (before Linux 6.9)
   */
  resend(): boolean {
    try {
      writevSync(this.fd, [resendNotification()]);
      return true;
    } catch (error) {
      if (hasErrno(error, 'EINVAL', 'ENOSYS', 'EPERM')) return false;
      throw error;
    }
  }

  #add(entry: FuseDirectory | FuseFile, parent: bigint): Node {
    const number = BigInt(ROOT_NODE + this.#nodes.size);
    const node: Node = { number, entry, parent, children: new Map() };
    this.#nodes.set(number, node);
    if ('entries' in entry) {
      for (const child of entry.entries) node.children.set(child.name, this.#add(child, number));
    }
    return node;
  }

  async #readRequests(): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(REQUEST_BYTES);
    for (;;) {
      let bytesRead: number;
      try {
        ({ bytesRead } = await readDevice(this.fd, buffer, 0, buffer.length, null));
      } catch (error) {
        // Interrupted, or taken back by who asked before it was read.
        if (hasErrno(error, 'EINTR', 'EAGAIN', 'ENOENT')) continue;
        if (hasErrno(error, 'ENODEV')) return;
        throw error;
      }
      const request = decodeRequest(buffer.subarray(0, bytesRead));
      if (request === undefined) continue;
      this.options.onRequest?.();
      this.#answer(request);
    }
  }

  /** The request lies in a buffer that the next one replaces: whatever waits takes what it needs first. */
  #answer(request: FuseRequest): void {
    const { opcode, unique, body } = request;
    switch (opcode) {
      case OPCODE.forget:
      case OPCODE.batchForget:
        return;
      case OPCODE.interrupt:
        this.#interrupt(body.readBigUInt64LE(0));
        return;
      case OPCODE.read:
        void this.#read(unique, request);
        return;
      default: {
        const answer = this.#answerAtOnce(request);
        if (typeof answer === 'number') this.#reply(unique, answer);
        else this.#reply(unique, 0, answer);
      }
    }
  }

  /** @returns the body of the answer, or an errno; 0 where there is no body */
  #answerAtOnce({ opcode, node: number, body }: FuseRequest): Buffer | number {
    if (opcode === OPCODE.init) return initReply(body);
    if (opcode === OPCODE.destroy || opcode === OPCODE.flush) return 0;
    const node = this.#nodes.get(number);
    if (node === undefined) return ENOENT;
    switch (opcode) {
      case OPCODE.lookup: {
        const child = node.children.get(decodeName(body));
        return child === undefined ? ENOENT : entryReply(this.#attributes(child));
      }
      case OPCODE.getattr:
        return attributesReply(this.#attributes(node));
      case OPCODE.open:
      case OPCODE.opendir:
        return openReply();
      case OPCODE.release:
      case OPCODE.releasedir:
        return 0;
      case OPCODE.statfs:
        return statfsReply(this.#bytes);
      case OPCODE.readdir:
        return this.#entries(node, body);
      default:
        return ENOSYS;
    }
  }

  #entries(node: Node, body: Buffer): Buffer | number {
    const range = decodeRead(body);
    if (!('entries' in node.entry) || range === undefined) return ENOTDIR;
    const all: [name: string, node: Node | undefined][] = [
      ['.', node],
      ['..', this.#nodes.get(node.parent)],
      ...node.children.entries(),
    ];
    const entries: Buffer[] = [];
    let bytes = 0;
    for (let index = range.offset; index < all.length; index++) {
      const [name, child] = all[index] as [string, Node];
      const entry = directoryEntry(name, child.number, index + 1, 'entries' in child.entry);
      bytes += entry.length;
      if (bytes > range.length) break;
      entries.push(entry);
    }
    return Buffer.concat(entries);
  }

  async #read(unique: bigint, { node: number, body, pid }: FuseRequest): Promise<void> {
    const entry = this.#nodes.get(number)?.entry;
    const range = decodeRead(body);
    if (entry === undefined || 'entries' in entry || range === undefined) {
      this.#reply(unique, entry === undefined ? ENOENT : EISDIR);
      return;
    }
    const length = Math.min(range.length, MAXIMUM_READ, Math.max(0, entry.bytes - range.offset));
    const under = { answered: false };
    this.#reads.set(unique, under);
    let bytes: Uint8Array | undefined;
    try {
      bytes = length === 0 ? new Uint8Array(0) : await entry.read(range.offset, length, pid);
    } catch (error) {
      this.options.onFailure?.(error);
    }
    if (under.answered) return;
    this.#reads.delete(unique);
    this.#reply(unique, bytes === undefined ? EIO : 0, bytes);
  }

  /** A process that is killed while it waits would otherwise stay until its page has come. */
  #interrupt(unique: bigint): void {
    const under = this.#reads.get(unique);
    if (under === undefined) return;
    under.answered = true;
    this.#reads.delete(unique);
    this.#reply(unique, EINTR);
  }

  #reply(unique: bigint, errno: number, body: Uint8Array = new Uint8Array(0)): void {
    try {
      writevSync(this.fd, [replyHeader(unique, errno, body.byteLength), body]);
    } catch (error) {
      // Whoever asked has gone, or the file system has.
      if (!hasErrno(error, 'ENOENT', 'ENODEV', 'EINVAL')) throw error;
    }
  }

  #attributes({ number, entry }: Node): FuseAttributes {
    return {
      node: number,
      isDirectory: 'entries' in entry,
      bytes: bytesOf(entry),
      timeMs: this.options.timeMs,
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
    };
  }
}

function bytesOf(entry: FuseDirectory | FuseFile): number {
  return 'entries' in entry ? 0 : entry.bytes;
}
