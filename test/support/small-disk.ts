/** A small file system of its own on a loop device, for tests of disks that fill up or fail. Needs root. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const TOOLS = ['/usr/sbin/losetup', '/sbin/losetup'];

/** Why there can be none here. */
export function whyNoSmallDisk(): string | false {
  if (process.getuid?.() !== 0) return 'needs root, for a loop device';
  if (!existsSync('/dev/loop-control')) return 'needs loop devices';
  if (!TOOLS.some((tool) => existsSync(tool))) return 'needs losetup';
  try {
    execFileSync('mkfs.ext4', ['-V'], { stdio: 'ignore' });
  } catch {
    return 'needs mkfs.ext4';
  }
  return false;
}

export interface SmallDiskOptions {
  sizeMiB: number;
  /** The disk itself has only so much, whatever it says: thin provisioning gone wrong. By default it has all of its size. */
  backedMiB?: number;
}

export class SmallDisk implements Disposable {
  private constructor(
    private readonly root: string,
    private readonly image: string,
    /** Where the file system is mounted. */
    readonly path: string,
    private readonly mounts: readonly string[],
  ) {}

  static create({ sizeMiB, backedMiB }: SmallDiskOptions): SmallDisk {
    const root = mkdtempSync(path.join(os.tmpdir(), 'mapram-disk-'));
    const [host, mountPoint] = [path.join(root, 'host'), path.join(root, 'disk')];
    const image = path.join(host, 'image');
    const mounts: string[] = [];
    const disk = new SmallDisk(root, image, mountPoint, mounts);
    try {
      mkdirSync(host);
      mkdirSync(mountPoint);
      // The device's file lies on a file system that is full before the device is.
      if (backedMiB !== undefined) {
        execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${backedMiB}m`, 'tmpfs', host]);
        mounts.push(host);
      }
      writeFileSync(image, '');
      truncateSync(image, sizeMiB << 20);
      // No journal: its errors would make the file system read-only before anything is seen of the file.
      execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'lazy_itable_init=0,nodiscard', image]);
      execFileSync('mount', ['-o', 'loop,errors=continue', image, mountPoint]);
      mounts.push(mountPoint);
      return disk;
    } catch (error) {
      disk[Symbol.dispose]();
      throw error;
    }
  }

  /** Takes all space that is left. */
  fill(): void {
    const ballast = path.join(this.path, 'ballast');
    for (let attempt = 0; attempt < 20; attempt++) {
      const { bfree, bsize } = statfsSync(this.path);
      const size = (statSync(ballast, { throwIfNoEntry: false })?.blocks ?? 0) * 512 + bfree * bsize;
      // Somebody else may take some of it at the same time: what is there by then is taken all the same.
      spawnSync('fallocate', ['-l', String(size), ballast], { stdio: 'ignore' });
      if (statfsSync(this.path).bfree * bsize < 1 << 20) return;
    }
  }

  /** Makes everything behind the first `bytes` of the disk unreadable: I/O errors, as of a broken one. */
  breakAfter(bytes: number): void {
    execFileSync('sync', ['-f', this.path]);
    truncateSync(this.image, bytes);
  }

  [Symbol.dispose](): void {
    for (const mount of [...this.mounts].reverse()) {
      try {
        execFileSync('umount', [mount], { stdio: 'ignore' });
      } catch {
        // Somebody is still about to close a file there.
        execFileSync('umount', ['-l', mount]);
      }
    }
    rmSync(this.root, { recursive: true, force: true });
  }
}
