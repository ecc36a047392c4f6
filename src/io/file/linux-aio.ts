/**
 * Linux's own asynchronous I/O (`io_submit`): a direct read or write runs in the kernel while the thread goes on. It is older than
 * io_uring and, unlike that, allowed in most containers. Only direct I/O is asynchronous by it; other calls are made before it
 * returns.
 *
 * ```
 * struct iocb                                   struct io_event
 *  0  u64  data        returned in the event     0  u64  data
 *  8  u32  key                                   8  u64  address of the iocb
 * 12  u32  flags                                16  s64  result: bytes, or -errno
 * 16  u16  opcode      0: pread, 1: pwrite      24  s64  -
 * 18  s16  priority
 * 20  u32  descriptor
 * 24  u64  address of the bytes
 * 32  u64  number of bytes
 * 40  s64  offset in the file
 * 48  16 bytes, zero
 * ```
 */
import { constants } from 'node:os';
import { admit } from '../faults.js';
import { native } from '../native.js';
import { hasErrno, systemError } from '../system-error.js';
import { FileIoError } from './file-io-error.js';
import { readWhole, writeFully } from './positional-io.js';

const IOCB_BYTES = 64;
const EVENT_BYTES = 32;
const OPCODES = { read: 0, write: 1 } as const;

interface Request {
  call: keyof typeof OPCODES;
  fd: number;
  /** Kept, and with it its memory, until the kernel has done with it. */
  bytes: Uint8Array;
  position: number;
}

/** Direct reads and writes under way, a few at once. Belongs to one thread. */
export class IoQueue {
  readonly #context: bigint;
  readonly #requests: Buffer;
  readonly #pointer = Buffer.alloc(8);
  readonly #event = Buffer.alloc(EVENT_BYTES);
  readonly #underWay: (Request | undefined)[];
  readonly #address: bigint;

  private constructor(
    context: bigint,
    readonly depth: number,
  ) {
    this.#context = context;
    // Of an ArrayBuffer, which stays where it is; V8 may move a small Buffer.
    this.#requests = Buffer.from(new ArrayBuffer(depth * IOCB_BYTES));
    this.#address = native().address(this.#requests);
    this.#underWay = new Array(depth).fill(undefined);
  }

  /** For `depth` requests at once; undefined where the system gives none: not Linux, or all that there may be are in use. */
  static open(depth: number): IoQueue | undefined {
    try {
      return new IoQueue(native().ioSetup(depth), depth);
    } catch (error) {
      if (hasErrno(error, 'ENOSYS', 'EPERM', 'EACCES', 'EAGAIN', 'ENOMEM', 'EINVAL')) return undefined;
      throw error;
    }
  }

  /**
   * Begins a write of all of `bytes`, once there is room for one more. They must not change until `drain` returns.
   *
   * @throws FileIoError of this write, or of what was begun before
   */
  write(fd: number, bytes: Uint8Array, position: number): void {
    this.#begin('write', fd, bytes, position);
  }

  /**
   * Begins to read all of `bytes`, which are there when `drain` returns.
   *
   * @throws FileIoError of this read, or of what was begun before
   */
  read(fd: number, bytes: Uint8Array, position: number): void {
    this.#begin('read', fd, bytes, position);
  }

  /**
   * Waits for all that is under way.
   *
   * @throws FileIoError of the first that failed, when all have ended
   */
  drain(): void {
    let failure: FileIoError | undefined;
    while (this.#underWay.some((request) => request !== undefined)) {
      try {
        this.#finishOne();
      } catch (error) {
        if (!(error instanceof FileIoError)) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Waits for what is under way from or to this memory, which may then be used again. */
  release(memory: ArrayBufferLike): void {
    while (this.#underWay.some((request) => request?.bytes.buffer === memory)) this.#finishOne();
  }

  /** Waits for what is under way and gives the queue back. */
  close(): void {
    native().ioDestroy(this.#context);
  }

  #begin(call: Request['call'], fd: number, bytes: Uint8Array, position: number): void {
    const slot = this.#freeSlot();
    const request = { call, fd, bytes, position };
    try {
      if (!this.#submit(slot, request)) finish(request, 0);
    } catch (error) {
      throw FileIoError.at(position, error);
    }
  }

  #freeSlot(): number {
    const free = this.#underWay.indexOf(undefined);
    return free >= 0 ? free : this.#finishOne();
  }

  /** Returns false where it is not taken just now. */
  #submit(slot: number, request: Request): boolean {
    const { call, fd, bytes, position } = request;
    const control = this.#requests.subarray(slot * IOCB_BYTES, (slot + 1) * IOCB_BYTES).fill(0);
    control.writeBigUInt64LE(BigInt(slot), 0);
    control.writeUInt16LE(OPCODES[call], 16);
    control.writeUInt32LE(fd, 20);
    control.writeBigUInt64LE(native().address(bytes), 24);
    control.writeBigInt64LE(BigInt(position), 40);
    this.#pointer.writeBigUInt64LE(this.#address + BigInt(slot * IOCB_BYTES));
    try {
      const length = admit(call, bytes.length, () => ({ fd, position }));
      control.writeBigUInt64LE(BigInt(length), 32);
      native().ioSubmit(this.#context, 1, this.#pointer);
    } catch (error) {
      if (hasErrno(error, 'EAGAIN', 'EINTR')) return false;
      throw error;
    }
    this.#underWay[slot] = request;
    return true;
  }

  /** Waits for whichever ends first. Returns its slot. */
  #finishOne(): number {
    native().ioGetevents(this.#context, 1, this.#event);
    const slot = Number(this.#event.readBigUInt64LE(0));
    const request = this.#underWay[slot] as Request;
    this.#underWay[slot] = undefined;
    try {
      finish(request, doneOf(request, Number(this.#event.readBigInt64LE(16))));
    } catch (error) {
      throw FileIoError.at(request.position, error);
    }
    return slot;
  }
}

/** What is missing of a request after `done` bytes, by waiting for it. */
function finish({ call, fd, bytes, position }: Request, done: number): void {
  if (call === 'write') writeFully(fd, bytes, position, done);
  else readWhole(fd, bytes, position, done);
}

/** Bytes of a request that has ended; none of one that is only to be made again, or of a read at the end of the file. */
function doneOf({ call }: Request, result: number): number {
  if (result > 0 || (result === 0 && call === 'read')) return result;
  if (result === -constants.errno.EINTR || result === -constants.errno.EAGAIN) return 0;
  throw systemError(result === 0 ? constants.errno.EIO : -result, call);
}
