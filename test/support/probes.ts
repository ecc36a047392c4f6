/** Independent witnesses of what happened: the kernel's view of descriptors and page cache, QEMU's view of memory. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  constants,
  createReadStream,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestVm } from './qemu.js';

export interface OpenDescriptor {
  fd: number;
  direct: boolean;
  access: 'read' | 'write' | 'read-write';
}

/** By the value of the two lowest open flags (O_ACCMODE). */
const accessModes = ['read', 'write', 'read-write'] as const;

/** The descriptors that a process has open on `file` at this moment, from /proc/PID/fd and fdinfo. */
export function openDescriptors(pid: number, file: string): OpenDescriptor[] {
  const folder = `/proc/${pid}`;
  return readdirSync(path.join(folder, 'fd')).flatMap((fd) => {
    try {
      if (readlinkSync(path.join(folder, 'fd', fd)) !== file) return [];
      const info = readFileSync(path.join(folder, 'fdinfo', fd), 'utf8');
      const flags = Number.parseInt(info.match(/^flags:\s*(\d+)$/m)?.[1] ?? '', 8);
      const access = accessModes[flags & 0b11];
      if (access === undefined) throw new Error(`/proc/${pid}/fdinfo/${fd} shows no flags`);
      return [{ fd: Number(fd), direct: (flags & constants.O_DIRECT) !== 0, access }];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  });
}

/** Every different descriptor that a process had on `file` while `work` went on, as far as a look each 2 ms shows. */
export async function descriptorsDuring<T>(
  pid: number,
  file: string,
  work: Promise<T>,
): Promise<{ result: T; seen: OpenDescriptor[] }> {
  const seen = new Map<string, OpenDescriptor>();
  let over = false;
  const settled = work.finally(() => {
    over = true;
  });
  settled.catch(() => {});
  while (!over) {
    for (const descriptor of openDescriptors(pid, file)) seen.set(JSON.stringify(descriptor), descriptor);
    await sleep(2);
  }
  return { result: await settled, seen: [...seen.values()] };
}

/** Bytes of a file that are in the page cache, as util-linux's fincore sees it. */
export function residentBytes(file: string): number {
  return Number(
    execFileSync('fincore', ['--bytes', '--noheadings', '--raw', '--output', 'RES', file], {
      encoding: 'utf8',
    }),
  );
}

/** SHA-256 of a part of a file, in hexadecimal. */
export async function sha256(file: string, start = 0, length = Number.POSITIVE_INFINITY): Promise<string> {
  const digest = createHash('sha256');
  for await (const chunk of createReadStream(file, {
    start,
    end: start + length - 1,
    highWaterMark: 1 << 20,
  }))
    digest.update(chunk);
  return digest.digest('hex');
}

/**
 * QEMU's own dump of guest-physical memory [start, start + length), made while the VM is stopped.
 * From 0xa0000 to 1 MiB the guest sees video memory and firmware there, not its RAM block.
 */
export async function dumpPhysicalMemory(vm: TestVm, start: number, length: number): Promise<Buffer> {
  const file = path.join(vm.folder, 'physical-memory');
  await vm.qmp.execute('pmemsave', { val: start, size: length, filename: file });
  try {
    return readFileSync(file);
  } finally {
    rmSync(file);
  }
}

/** The files below a folder, such as those that something left behind. */
export function filesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String).sort() : [];
}
