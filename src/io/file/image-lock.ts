/**
 * The locks that QEMU holds on disk images (OFD locks, which belong to an open file and to no process):
 *
 * ```
 * byte 100 + N   shared, of who uses permission N: 0 consistent read, 1 write, 2 write unchanged, 3 resize
 * byte 200 + N   shared, of who bears no other user of permission N
 *
 * /proc/locks    6: OFDLCK ADVISORY  READ -1 fe:00:2171140 101 101
 * ```
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { deviceName } from '../process/process-maps.js';

const WRITE_USED = 101;

const LINE = /^\d+: OFDLCK +\S+ +\S+ +-?\d+ +([0-9a-f]+:[0-9a-f]+):(\d+) +(\d+) +(\d+|EOF)/;

/** Whether some QEMU may write to the image at this moment. Where file systems number their files otherwise than they say: false. */
export function isOpenForWriting(file: string): boolean {
  try {
    const { dev, ino } = statSync(file);
    return parseLocks(readFileSync('/proc/locks', 'latin1')).some(
      ({ device, inode, first, last }) =>
        device === deviceName(dev) && inode === ino && first <= WRITE_USED && last >= WRITE_USED,
    );
  } catch {
    return false;
  }
}

interface FileLock {
  device: string;
  inode: number;
  first: number;
  last: number;
}

export function parseLocks(text: string): FileLock[] {
  return text.split('\n').flatMap((line) => {
    const [, device, inode, first, last] = LINE.exec(line) ?? [];
    if (device === undefined) return [];
    return [
      {
        device,
        inode: Number(inode),
        first: Number(first),
        last: last === 'EOF' ? Number.POSITIVE_INFINITY : Number(last),
      },
    ];
  });
}

/** A process that has the file open, as far as this one may see. */
export function processWithOpen(file: string): number | undefined {
  try {
    const { dev, ino } = statSync(file);
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .find((pid) => hasOpen(pid, dev, ino));
  } catch {
    return undefined;
  }
}

function hasOpen(pid: number, device: number, inode: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      const { dev, ino } = statSync(`/proc/${pid}/fd/${fd}`);
      return dev === device && ino === inode;
    });
  } catch {
    return false;
  }
}
