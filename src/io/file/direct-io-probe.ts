import { constants, fstatSync, statSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { assertArguments, path as targetPath } from '../../checked-options.js';
import { errorReason } from '../../errors.js';
import { platformHasDirectIo } from '../../platform.js';
import type { Bytes } from '../../units.js';
import { alignedBuffer } from '../memory/aligned-buffer.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';
import { O_DIRECT } from './direct-io-support.js';
import { closeFile, openFile } from './open-file.js';
import { readFully, writeFully } from './positional-io.js';

const AT_EMPTY_PATH = 0x1000;
const STATX_DIOALIGN = 0x2000;
/** Offsets in `struct statx`. */
const STATX = { bytes: 256, mask: 0, memoryAlign: 0x98, offsetAlign: 0x9c } as const;
/** O_TMPFILE without its O_DIRECTORY part; the same on every architecture that Node supports. */
const O_TMPFILE_BIT = 0o20000000;
/** Granularities that are tried, smallest first; a device with larger blocks than this is not known. */
const TRIED_ALIGNMENTS = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/** What a file, or new files in a directory, take as direct I/O. */
export interface DirectIoProbe {
  supported: boolean;
  /** Address of a buffer, in bytes. 1 where any will do, 0 when unsupported. */
  memoryAlignment: Bytes;
  /** File offset and length, in bytes. 1 where any will do, 0 when unsupported. */
  offsetAlignment: Bytes;
  /** Who said so: the kernel, or trial I/O on a file that was never visible or is removed again. */
  how: 'statx' | 'probe';
  /** Why it is unsupported: half a sentence. */
  reason?: string;
}

/**
 * Finds out whether O_DIRECT works on `target`, and with which alignments.
 *
 * An existing file is asked about itself, without being written to. For a directory, or a file that does not exist
 * yet, an unnamed temporary file in that directory is asked. The kernel's own word counts (STATX_DIOALIGN,
 * Linux 6.1); tmpfs and older kernels do not give it, so there it is tried.
 *
 * @throws the system error when the target cannot be opened, or the directory cannot be written to.
 */
export function probeDirectIo(target: string): DirectIoProbe {
  assertArguments('probeDirectIo', { target: targetPath }, { target });
  if (!platformHasDirectIo()) return unsupported('probe', 'this platform has no O_DIRECT');
  const directory = directoryFor(target);
  return directory === undefined ? probeFile(target) : probeDirectory(directory);
}

/** The directory to try in, or undefined for an existing file. */
function directoryFor(target: string): string | undefined {
  try {
    return statSync(target).isDirectory() ? target : undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return path.dirname(target);
    throw error;
  }
}

function probeFile(file: string): DirectIoProbe {
  const fd = openFile(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const told = askKernel(fd);
    if (told !== undefined) return told;
  } finally {
    closeFile(fd);
  }
  return tryAlignments(
    () => openFile(file, constants.O_RDONLY | O_DIRECT),
    (direct, buffer, step) => readFully(direct, buffer, step),
  );
}

function probeDirectory(directory: string): DirectIoProbe {
  const temporary = openTemporary(directory);
  try {
    const told = askKernel(temporary.fd);
    if (told !== undefined) return told;
    return tryAlignments(
      () => openFile(temporary.path, constants.O_RDWR | O_DIRECT),
      (direct, buffer, step) => {
        writeFully(direct, buffer, step);
        readFully(direct, buffer, step);
      },
    );
  } finally {
    temporary.close();
  }
}

/** An unnamed file where the file system has O_TMPFILE, else a named one that `close` removes. */
function openTemporary(directory: string): { fd: number; path: string; close(): void } {
  try {
    const fd = openFile(directory, constants.O_RDWR | constants.O_DIRECTORY | O_TMPFILE_BIT);
    return { fd, path: `/proc/self/fd/${fd}`, close: () => closeFile(fd) };
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP', 'ENOTSUP', 'EISDIR', 'ENOENT', 'EINVAL')) throw error;
  }
  const name = path.join(directory, `.mapram-probe-${process.pid}-${process.hrtime.bigint().toString(36)}`);
  const fd = openFile(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW);
  return {
    fd,
    path: name,
    close() {
      unlinkSync(name);
      closeFile(fd);
    },
  };
}

/** statx of an open file; undefined where the kernel or the file system does not say. */
function askKernel(fd: number): DirectIoProbe | undefined {
  const result = Buffer.alloc(STATX.bytes);
  try {
    native().statx(fd, '', AT_EMPTY_PATH, STATX_DIOALIGN, result);
  } catch (error) {
    if (hasErrno(error, 'ENOSYS', 'EINVAL')) return undefined;
    throw error;
  }
  if ((result.readUInt32LE(STATX.mask) & STATX_DIOALIGN) === 0) return undefined;
  const memoryAlignment = result.readUInt32LE(STATX.memoryAlign);
  const offsetAlignment = result.readUInt32LE(STATX.offsetAlign);
  if (memoryAlignment === 0 || offsetAlignment === 0) {
    return unsupported('statx', 'the file system has no direct I/O for this file');
  }
  return { supported: true, memoryAlignment, offsetAlignment, how: 'statx' };
}

/** Opens with O_DIRECT and looks for the smallest unit that an I/O call accepts. */
function tryAlignments(
  open: () => number,
  transfer: (fd: number, buffer: Buffer, step: number) => void,
): DirectIoProbe {
  let fd: number;
  try {
    fd = open();
  } catch (error) {
    if (hasErrno(error, 'EINVAL')) return unsupported('probe', 'the file system does not support O_DIRECT');
    throw error;
  }
  try {
    const accepted = (memoryStep: number, fileStep: number): boolean => {
      const buffer = alignedBuffer(memoryStep + fileStep).subarray(memoryStep, memoryStep + fileStep);
      try {
        transfer(fd, buffer, fileStep);
        return true;
      } catch (error) {
        if (hasErrno(error, 'EINVAL')) return false;
        throw error;
      }
    };
    if (!fstatSync(fd).isFile()) return unsupported('probe', 'not a regular file');
    const offsetAlignment = [1, ...TRIED_ALIGNMENTS].find((step) => accepted(0, step));
    if (offsetAlignment === undefined) {
      return unsupported('probe', `I/O in units of ${TRIED_ALIGNMENTS.at(-1)} bytes is refused (EINVAL)`);
    }
    // A write of one sector passes at any address on some kernels; one of several pages shows the rule.
    const unit = Math.max(offsetAlignment, 8192);
    const memoryAlignment = [1, ...TRIED_ALIGNMENTS].find((step) => accepted(step, unit)) ?? 65_536;
    return { supported: true, memoryAlignment, offsetAlignment, how: 'probe' };
  } catch (error) {
    return unsupported('probe', `trial I/O with O_DIRECT failed (${errorReason(error)})`);
  } finally {
    closeFile(fd);
  }
}

function unsupported(how: DirectIoProbe['how'], reason: string): DirectIoProbe {
  return { supported: false, memoryAlignment: 0, offsetAlignment: 0, how, reason };
}
