import { constants, fstatSync, readFileSync } from 'node:fs';
import { defined } from '../../defined.js';
import { O_DIRECT } from '../file/direct-io-support.js';
import { openAfterLook } from '../file/open-file.js';

const KEPT_FLAGS = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR | O_DIRECT;

/**
 * Opens anew what another process has open, with the same access mode and O_DIRECT bit. Linux only. The process may put another file
 * under that number meanwhile: what is opened is the one whose flags were read, so that it never gets rights that the process had on
 * another file.
 *
 * @throws the system error of open(2); `EACCES` for a process of another user
 */
export function reopenDescriptorOf(pid: number, fd: number): number {
  const theirs = readDescriptorInfo(`/proc/${pid}/fdinfo/${fd}`);
  return openAfterLook(`/proc/${pid}/fd/${fd}`, theirs.flags & KEPT_FLAGS, (opened) => {
    const { mount } = readDescriptorInfo(`/proc/self/fdinfo/${opened}`);
    const same =
      mount === theirs.mount &&
      (theirs.inode === undefined || fstatSync(opened, { bigint: true }).ino === theirs.inode);
    if (!same) throw new Error(`descriptor ${fd} of process ${pid} was exchanged meanwhile`);
  });
}

/** The flags that `fd` of this process was opened with (open(2)). */
export function descriptorFlags(fd: number): number {
  return readDescriptorInfo(`/proc/self/fdinfo/${fd}`).flags;
}

interface DescriptorInfo {
  flags: number;
  mount: string;
  /** Since Linux 5.14. */
  inode?: bigint;
}

/** What the kernel says of a descriptor, all at one moment. */
function readDescriptorInfo(file: string): DescriptorInfo {
  const text = readFileSync(file, 'latin1');
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1];
  const inode = field('ino');
  return {
    flags: Number.parseInt(field('flags') ?? '0', 8),
    mount: field('mnt_id') ?? '',
    ...defined({ inode: inode === undefined ? undefined : BigInt(inode) }),
  };
}
