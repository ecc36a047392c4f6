/**
 * Linux's own asynchronous I/O (`io_submit`): a direct write runs in the kernel while the thread goes on. It is older than
 * io_uring and, unlike that, allowed in most containers. Only direct I/O is asynchronous by it; other writes are made before the
 * call returns.
 *
 * ```
 * struct iocb                                   struct io_event
 *  0  u64  data        returned in the event     0  u64  data
 *  8  u32  key                                   8  u64  address of the iocb
 * 12  u32  flags                                16  s64  result: bytes, or -errno
 * 16  u16  opcode      1: pwrite                24  s64  -
 * 18  s16  priority
 * 20  u32  descriptor
 * 24  u64  address of the bytes
 * 32  u64  number of bytes
 * 40  s64  offset in the file
 * 48  16 bytes, zero
 * ```
 */
import { constants } from 'node:os';
import { admit } from './faults.js';
import { native } from './native.js';
import { writeFully } from './positional-io.js';
import { retryOrThrow } from './retry.js';
import { hasErrno, systemError } from './system-error.js';

const IOCB_BYTES = 64;
const EVENT_BYTES = 32;
const OPCODE_PWRITE = 1;

/** A write that has failed, perhaps long after it was begun. */
export class QueuedWriteError extends Error {
  constructor(
    /** Where in the file. */
    readonly position: number,
    override readonly cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
}

interface Write {
  fd: number;
  /** Kept, and with it its memory, until the kernel has done with it. */
  bytes: Uint8Array;
  position: number;
  /** How many of the bytes were asked for. */
  length: number;
}

/** Direct writes under way, a few at once. Belongs to one thread, and is good for one set of channels after the other. */
export class WriteQueue {
  readonly #context: bigint;
  readonly #requests: Buffer;
  readonly #pointer = Buffer.alloc(8);
  readonly #event = Buffer.alloc(EVENT_BYTES);
  readonly #writes: (Write | undefined)[];
  readonly #address: bigint;

  private constructor(context: bigint, depth: number) {
    this.#context = context;
    // Of an ArrayBuffer, which stays where it is; V8 may move a small Buffer.
    this.#requests = Buffer.from(new ArrayBuffer(depth * IOCB_BYTES));
    this.#address = native().address(this.#requests);
    this.#writes = new Array(depth).fill(undefined);
  }

  /** For `depth` writes at once; undefined where the system gives none: not Linux, or all that there may be are in use. */
  static open(depth: number): WriteQueue | undefined {
    try {
      return new WriteQueue(native().ioSetup(depth), depth);
    } catch (error) {
      if (hasErrno(error, 'ENOSYS', 'EPERM', 'EACCES', 'EAGAIN', 'ENOMEM', 'EINVAL')) return undefined;
      throw error;
    }
  }

  /**
   * Begins a write of all of `bytes`, once there is room for one more. They must not change until `drain` returns.
   *
   * @throws QueuedWriteError of this write, or of one that was begun before
   */
  write(fd: number, bytes: Uint8Array, position: number): void {
    const slot = this.#freeSlot();
    try {
      const length = admitted(fd, bytes.length, position);
      if (!this.#submit(slot, { fd, bytes, position, length })) writeFully(fd, bytes, position);
    } catch (error) {
      throw new QueuedWriteError(position, error);
    }
  }

  /**
   * Waits for all writes that are under way.
   *
   * @throws QueuedWriteError of the first that failed, when all have ended
   */
  drain(): void {
    let failure: QueuedWriteError | undefined;
    while (this.#writes.some((write) => write !== undefined)) {
      try {
        this.#finishOne();
      } catch (error) {
        if (!(error instanceof QueuedWriteError)) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Waits for what is under way and gives the queue back. */
  close(): void {
    native().ioDestroy(this.#context);
  }

  #freeSlot(): number {
    const free = this.#writes.indexOf(undefined);
    return free >= 0 ? free : this.#finishOne();
  }

  /** Returns false where the kernel takes no write just now. */
  #submit(slot: number, write: Write): boolean {
    const { fd, bytes, position, length } = write;
    const request = this.#requests.subarray(slot * IOCB_BYTES, (slot + 1) * IOCB_BYTES).fill(0);
    request.writeBigUInt64LE(BigInt(slot), 0);
    request.writeUInt16LE(OPCODE_PWRITE, 16);
    request.writeUInt32LE(fd, 20);
    request.writeBigUInt64LE(native().address(bytes), 24);
    request.writeBigUInt64LE(BigInt(length), 32);
    request.writeBigInt64LE(BigInt(position), 40);
    this.#pointer.writeBigUInt64LE(this.#address + BigInt(slot * IOCB_BYTES));
    try {
      native().ioSubmit(this.#context, 1, this.#pointer);
    } catch (error) {
      if (hasErrno(error, 'EAGAIN')) return false;
      throw error;
    }
    this.#writes[slot] = write;
    return true;
  }

  /** Waits for whichever write ends first. Returns its slot. */
  #finishOne(): number {
    native().ioGetevents(this.#context, 1, this.#event);
    const slot = Number(this.#event.readBigUInt64LE(0));
    const { fd, bytes, position } = this.#writes[slot] as Write;
    this.#writes[slot] = undefined;
    try {
      const done = writtenOf(Number(this.#event.readBigInt64LE(16)));
      if (done < bytes.length) writeFully(fd, bytes.subarray(done), position + done);
    } catch (error) {
      throw new QueuedWriteError(position, error);
    }
    return slot;
  }
}

function admitted(fd: number, length: number, position: number): number {
  for (;;) {
    try {
      return admit('write', length, () => ({ fd, position }));
    } catch (error) {
      retryOrThrow(error);
    }
  }
}

/** Bytes of a write that has ended; none of one that is only to be made again. */
function writtenOf(result: number): number {
  if (result > 0) return result;
  if (result === -constants.errno.EINTR || result === -constants.errno.EAGAIN) return 0;
  throw systemError(result === 0 ? constants.errno.EIO : -result, 'write');
}
