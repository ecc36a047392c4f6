/**
 * Every system call that Node has no function for, behind one typed interface.
 *
 * koffi is loaded at the first call, so that commands which need none of this do not pay for it, and each function
 * is looked up when first used. Nothing outside this file knows koffi: another foreign function library has
 * only to provide `loadNative`.
 *
 * All functions throw a system error (`code`, `errno`, `syscall`) instead of returning -1, and repeat after EINTR.
 * Addresses are `bigint`, lengths and offsets `number`. Only Linux is supported; elsewhere they throw ENOSYS.
 */
import { constants } from 'node:os';
import { isTracing, traceNativeCall } from './call-trace.js';
import { requirePackage } from './package-files.js';
import { systemError } from './system-error.js';

export interface Native {
  /** The foreign function library and its version, for people. */
  readonly library: string;
  /** Bytes of a page of memory. */
  readonly pageSize: number;
  mmap(
    address: bigint | null,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ): bigint;
  munmap(address: bigint, length: number): void;
  madvise(address: bigint, length: number, advice: number): void;
  mincore(address: bigint, length: number, vector: Uint8Array): void;
  /** The memory at `address` as an ArrayBuffer that shares its bytes; at most 4 GiB on Node 20. */
  view(address: bigint, length: number): ArrayBuffer;
  lseek(fd: number, offset: number, whence: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): void;
  posixFadvise(fd: number, offset: number, length: number, advice: number): void;
  syncFileRange(fd: number, offset: number, length: number, flags: number): void;
  statx(directory: number, path: string, flags: number, mask: number, result: Uint8Array): void;
  cachestat(fd: number, range: Uint8Array, result: Uint8Array, flags: number): void;
  memfdCreate(name: string, flags: number): number;
  pidfdOpen(pid: number, flags: number): number;
  pidfdGetfd(pidfd: number, fd: number, flags: number): number;
  flock(fd: number, operation: number): void;
  fcntl(fd: number, command: number, argument: number): number;
  /** With an argument that is a structure. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  socketpair(domain: number, type: number, protocol: number, pair: Int32Array): void;
  pipe2(ends: Int32Array, flags: number): void;
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  sendmsg(fd: number, message: MessageBuffers, flags: number): number;
  recvmsg(
    fd: number,
    message: MessageBuffers,
    flags: number,
  ): { bytes: number; controlBytes: number; flags: number };
  shutdown(fd: number, how: number): void;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  pidfdSendSignal(pidfd: number, signal: number): void;
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  umount2(target: string, flags: number): void;
  /** Where the bytes of a buffer lie; it must not be one that V8 may move. */
  address(bytes: Uint8Array): bigint;
  /** An `aio_context_t` for `depth` requests. */
  ioSetup(depth: number): bigint;
  ioDestroy(context: bigint): void;
  /** @param requests addresses of `struct iocb`, 8 bytes each */
  ioSubmit(context: bigint, count: number, requests: Uint8Array): number;
  /** Waits for at least `count` events, and as many at most. */
  ioGetevents(context: bigint, count: number, events: Uint8Array): number;
}

/** The two buffers of a socket message: ordinary bytes and ancillary data (`struct cmsghdr` records). */
export interface MessageBuffers {
  data: Uint8Array;
  control: Uint8Array;
}

/** Numbers of system calls that are the same on every Linux architecture (all calls added since 5.1 are). */
const SYS = { pidfdSendSignal: 424, pidfdOpen: 434, pidfdGetfd: 438, cachestat: 451 } as const;

/** Those of the numbers of all architectures that were given anew since x86 had them. */
const AIO_OF_NEW_ARCHITECTURES = { setup: 0, destroy: 1, getevents: 4, submit: 2 };
/** Of the calls of asynchronous I/O, for which libc has no functions. */
const AIO_CALLS: Partial<Record<NodeJS.Architecture, typeof AIO_OF_NEW_ARCHITECTURES>> = {
  x64: { setup: 206, destroy: 207, getevents: 208, submit: 209 },
  arm64: AIO_OF_NEW_ARCHITECTURES,
  riscv64: AIO_OF_NEW_ARCHITECTURES,
};

/** _SC_PAGESIZE of glibc and musl. */
const SC_PAGESIZE = 30;

const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
/** sizeof(struct msghdr) and the offsets of its members on 64-bit Linux. */
const MSGHDR = { bytes: 56, iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48 } as const;

/** What is used of libzstd: streams, and blocks whose length is known. */
export interface NativeZstd {
  /** @returns bytes written into `output` */
  compressBlock(input: Uint8Array, output: Uint8Array, level: number): number;
  /** @returns bytes written into `output`; more than it can hold is an error */
  decompressBlock(input: Uint8Array, output: Uint8Array): number;
  createDecoder(): bigint;
  /** One step: as much of `input` as fits into `output`. */
  decode(decoder: bigint, input: Uint8Array, output: Uint8Array): { consumed: number; produced: number };
  freeDecoder(decoder: bigint): void;
  createEncoder(level: number): bigint;
  /** One step: encodes `input` and flushes; `left` is what the encoder still holds back for want of room. */
  encode(
    encoder: bigint,
    input: Uint8Array,
    output: Uint8Array,
  ): { consumed: number; produced: number; left: number };
  freeEncoder(encoder: bigint): void;
}

/** ZSTD_c_compressionLevel and ZSTD_e_flush. */
const ZSTD = { compressionLevel: 100, flush: 1 } as const;

let loaded: Native | undefined;
let loadedZstd: NativeZstd | undefined;

/** The calls of this process, loaded once a thread. */
export function native(): Native {
  loaded ??= loadNative();
  return loaded;
}

function loadNative(): Native {
  if (process.platform !== 'linux') throw systemError(constants.errno.ENOSYS, 'linux system call');
  const koffi = requirePackage<typeof import('koffi')>('koffi', import.meta.url);
  const libc = koffi.load(null);

  type Argument = number | bigint | string | Uint8Array | Int32Array | null;
  type Call = (...args: Argument[]) => number;

  /** A function of libc, looked up at its first call; one that this libc lacks fails with ENOSYS. */
  const declare = (symbol: string, result: string, parameters: string[], name = symbol): Call => {
    let call: Call | undefined;
    return (...args) => {
      if (call === undefined) {
        try {
          call = libc.func(symbol, result, parameters) as Call;
        } catch {
          throw systemError(constants.errno.ENOSYS, name);
        }
      }
      // A number says which call `syscall` is, and so does the name.
      if (isTracing) traceNativeCall(name, symbol === 'syscall' ? args.slice(1) : args);
      for (;;) {
        const value = call(...args);
        if (value !== -1) return value;
        const errno = koffi.errno();
        if (errno !== constants.errno.EINTR) throw systemError(errno, name);
      }
    };
  };
  /** A call that gives its error as the result instead of in errno (the `posix_` family). */
  const declareReturning = (symbol: string, parameters: string[]): Call => {
    const call = declare(symbol, 'int', parameters);
    return (...args) => {
      const errno = call(...args);
      if (errno !== 0) throw systemError(errno, symbol);
      return 0;
    };
  };

  const mmapCall = libc.func('mmap', 'void *', ['void *', 'size_t', 'int', 'int', 'int', 'int64_t']) as (
    ...args: Argument[]
  ) => bigint;
  const munmap = declare('munmap', 'int', ['void *', 'size_t']);
  const madvise = declare('madvise', 'int', ['void *', 'size_t', 'int']);
  const mincore = declare('mincore', 'int', ['void *', 'size_t', 'void *']);
  const lseek = declare('lseek', 'int64_t', ['int', 'int64_t', 'int']);
  const fallocate = declare('fallocate', 'int', ['int', 'int', 'int64_t', 'int64_t']);
  const posixFadvise = declareReturning('posix_fadvise', ['int', 'int64_t', 'int64_t', 'int']);
  const syncFileRange = declare('sync_file_range', 'int', ['int', 'int64_t', 'int64_t', 'uint']);
  const statx = declare('statx', 'int', ['int', 'str', 'int', 'uint', 'void *']);
  const cachestat = declare('syscall', 'long', ['long', 'int', 'void *', 'void *', 'uint'], 'cachestat');
  const pidfdOpen = declare('syscall', 'long', ['long', 'int', 'uint'], 'pidfd_open');
  const pidfdGetfd = declare('syscall', 'long', ['long', 'int', 'int', 'uint'], 'pidfd_getfd');
  const memfdCreate = declare('memfd_create', 'int', ['str', 'uint']);
  const flock = declare('flock', 'int', ['int', 'int']);
  const fcntl = declare('fcntl', 'int', ['int', 'int', 'long']);
  const ioctl = declare('ioctl', 'int', ['int', 'ulong', 'void *']);
  const socketpair = declare('socketpair', 'int', ['int', 'int', 'int', 'void *']);
  const pipe2 = declare('pipe2', 'int', ['void *', 'int']);
  const getsockopt = declare('getsockopt', 'int', ['int', 'int', 'int', 'void *', 'void *']);
  const sendmsg = declare('sendmsg', 'int64_t', ['int', 'void *', 'int']);
  const recvmsg = declare('recvmsg', 'int64_t', ['int', 'void *', 'int']);
  const shutdown = declare('shutdown', 'int', ['int', 'int']);
  const poll = declare('poll', 'int', ['void *', 'ulong', 'int']);
  const pidfdSendSignal = declare(
    'syscall',
    'long',
    ['long', 'int', 'int', 'void *', 'uint'],
    'pidfd_send_signal',
  );

  const mount = declare('mount', 'int', ['str', 'str', 'str', 'ulong', 'str']);
  const umount2 = declare('umount2', 'int', ['str', 'int']);
  const ioSetup = declare('syscall', 'long', ['long', 'uint', 'void *'], 'io_setup');
  const ioDestroy = declare('syscall', 'long', ['long', 'ulong'], 'io_destroy');
  const ioGetevents = declare(
    'syscall',
    'long',
    ['long', 'ulong', 'long', 'long', 'void *', 'void *'],
    'io_getevents',
  );
  const ioSubmit = declare('syscall', 'long', ['long', 'ulong', 'long', 'void *'], 'io_submit');
  const aioCalls = () => {
    const calls = AIO_CALLS[process.arch];
    if (calls === undefined) throw systemError(constants.errno.ENOSYS, 'io_setup');
    return calls;
  };

  /** A `struct msghdr` with one iovec; `keep` must stay referenced as long as the header is used. */
  const messageHeader = ({ data, control }: MessageBuffers): { header: Buffer; keep: Buffer } => {
    const vector = Buffer.alloc(16);
    vector.writeBigUInt64LE(koffi.address(data), 0);
    vector.writeBigUInt64LE(BigInt(data.length), 8);
    const header = Buffer.alloc(MSGHDR.bytes);
    header.writeBigUInt64LE(koffi.address(vector), MSGHDR.iov);
    header.writeBigUInt64LE(1n, MSGHDR.iovlen);
    if (control.length > 0) {
      header.writeBigUInt64LE(koffi.address(control), MSGHDR.control);
      header.writeBigUInt64LE(BigInt(control.length), MSGHDR.controllen);
    }
    return { header, keep: vector };
  };

  return {
    library: `koffi ${koffi.version}`,
    pageSize: libc.func('sysconf', 'long', ['int'])(SC_PAGESIZE) as number,
    mmap(address, length, protection, flags, fd, offset) {
      if (isTracing) traceNativeCall('mmap', [address, length, protection, flags, fd, offset]);
      const result = mmapCall(address, length, protection, flags, fd, offset);
      if (result === MAP_FAILED) throw systemError(koffi.errno(), 'mmap');
      return result;
    },
    munmap: (address, length) => void munmap(address, length),
    madvise: (address, length, advice) => void madvise(address, length, advice),
    mincore: (address, length, vector) => void mincore(address, length, vector),
    view: (address, length) => koffi.view(address, length),
    lseek: (fd, offset, whence) => lseek(fd, offset, whence),
    fallocate: (fd, mode, offset, length) => void fallocate(fd, mode, offset, length),
    posixFadvise: (fd, offset, length, advice) => void posixFadvise(fd, offset, length, advice),
    syncFileRange: (fd, offset, length, flags) => void syncFileRange(fd, offset, length, flags),
    statx: (directory, path, flags, mask, result) => void statx(directory, path, flags, mask, result),
    cachestat: (fd, range, result, flags) => void cachestat(SYS.cachestat, fd, range, result, flags),
    memfdCreate: (name, flags) => memfdCreate(name, flags),
    pidfdOpen: (pid, flags) => pidfdOpen(SYS.pidfdOpen, pid, flags),
    pidfdGetfd: (pidfd, fd, flags) => pidfdGetfd(SYS.pidfdGetfd, pidfd, fd, flags),
    flock: (fd, operation) => void flock(fd, operation),
    fcntl: (fd, command, argument) => fcntl(fd, command, argument),
    ioctl: (fd, request, argument) => ioctl(fd, request, argument),
    socketpair: (domain, type, protocol, pair) => void socketpair(domain, type, protocol, pair),
    pipe2: (ends, flags) => void pipe2(ends, flags),
    getsockopt(fd, level, option, value) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(value.length);
      getsockopt(fd, level, option, value, length);
      return length.readUInt32LE();
    },
    sendmsg(fd, message, flags) {
      const { header, keep } = messageHeader(message);
      const sent = sendmsg(fd, header, flags);
      return keep.length > 0 ? sent : 0;
    },
    recvmsg(fd, message, flags) {
      const { header, keep } = messageHeader(message);
      const bytes = recvmsg(fd, header, flags);
      const controlBytes = Number(header.readBigUInt64LE(MSGHDR.controllen));
      return { bytes: keep.length > 0 ? bytes : 0, controlBytes, flags: header.readUInt32LE(MSGHDR.flags) };
    },
    shutdown: (fd, how) => void shutdown(fd, how),
    poll: (fds, count, timeoutMs) => poll(fds, count, timeoutMs),
    pidfdSendSignal: (pidfd, signal) => void pidfdSendSignal(SYS.pidfdSendSignal, pidfd, signal, null, 0),
    mount: (source, target, type, flags, data) => void mount(source, target, type, flags, data),
    umount2: (target, flags) => void umount2(target, flags),
    address: (bytes) => koffi.address(bytes),
    ioSetup(depth) {
      const context = Buffer.alloc(8);
      ioSetup(aioCalls().setup, depth, context);
      return context.readBigUInt64LE();
    },
    ioDestroy: (context) => void ioDestroy(aioCalls().destroy, context),
    ioGetevents: (context, count, events) =>
      ioGetevents(aioCalls().getevents, context, count, count, events, null),
    ioSubmit: (context, count, requests) => ioSubmit(aioCalls().submit, context, count, requests),
  };
}

/** libzstd, loaded once a thread; undefined where the system has none. */
export function nativeZstd(): NativeZstd | undefined {
  loadedZstd ??= loadZstd();
  return loadedZstd;
}

function loadZstd(): NativeZstd | undefined {
  if (process.platform !== 'linux') return undefined;
  const koffi = requirePackage<typeof import('koffi')>('koffi', import.meta.url);
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load('libzstd.so.1');
  } catch {
    return undefined;
  }
  const create = library.func('ZSTD_createDStream', 'void *', []) as () => bigint;
  const free = library.func('ZSTD_freeDStream', 'size_t', ['void *']);
  const decompress = library.func('ZSTD_decompressStream', 'size_t', ['void *', 'void *', 'void *']);
  const createEncoder = library.func('ZSTD_createCCtx', 'void *', []) as () => bigint;
  const setParameter = library.func('ZSTD_CCtx_setParameter', 'size_t', ['void *', 'int', 'int']);
  const compress = library.func('ZSTD_compressStream2', 'size_t', ['void *', 'void *', 'void *', 'int']);
  const freeEncoder = library.func('ZSTD_freeCCtx', 'size_t', ['void *']);
  const createBlockDecoder = library.func('ZSTD_createDCtx', 'void *', []) as () => bigint;
  const blockParameters = ['void *', 'void *', 'size_t', 'void *', 'size_t'];
  const compressBlock = library.func('ZSTD_compressCCtx', 'size_t', [...blockParameters, 'int']);
  const decompressBlock = library.func('ZSTD_decompressDCtx', 'size_t', blockParameters);
  const isError = library.func('ZSTD_isError', 'uint', ['size_t']);
  const errorName = library.func('ZSTD_getErrorName', 'str', ['size_t']);
  /** ZSTD_inBuffer and ZSTD_outBuffer: address, size, position. */
  const bufferOf = (bytes: Uint8Array): Buffer => {
    const buffer = Buffer.alloc(24);
    // The address of an empty view is not one; the library does not look at it.
    if (bytes.length > 0) buffer.writeBigUInt64LE(koffi.address(bytes), 0);
    buffer.writeBigUInt64LE(BigInt(bytes.length), 8);
    return buffer;
  };
  const checked = (result: number | bigint) => {
    if (isError(result) !== 0) throw new Error(String(errorName(result)));
    return result;
  };
  /** One of each a thread: a context is a few hundred KiB, and as long to make as a small block takes. */
  let blockEncoder: bigint | undefined;
  let blockDecoder: bigint | undefined;
  return {
    compressBlock(input, output, level) {
      blockEncoder ??= createEncoder();
      return Number(checked(compressBlock(blockEncoder, output, output.length, input, input.length, level)));
    },
    decompressBlock(input, output) {
      blockDecoder ??= createBlockDecoder();
      return Number(checked(decompressBlock(blockDecoder, output, output.length, input, input.length)));
    },
    createDecoder: () => create(),
    decode(decoder, input, output) {
      const from = bufferOf(input);
      const to = bufferOf(output);
      checked(decompress(decoder, to, from));
      return { consumed: Number(from.readBigUInt64LE(16)), produced: Number(to.readBigUInt64LE(16)) };
    },
    freeDecoder: (decoder) => void free(decoder),
    createEncoder(level) {
      const encoder = createEncoder();
      checked(setParameter(encoder, ZSTD.compressionLevel, level));
      return encoder;
    },
    encode(encoder, input, output) {
      const from = bufferOf(input);
      const to = bufferOf(output);
      const left = checked(compress(encoder, to, from, ZSTD.flush));
      return {
        consumed: Number(from.readBigUInt64LE(16)),
        produced: Number(to.readBigUInt64LE(16)),
        left: Number(left),
      };
    },
    freeEncoder: (encoder) => void freeEncoder(encoder),
  };
}
