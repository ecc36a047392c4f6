import { native } from '../native.js';

const SEEK_SET = 0;

/** Where plain reads and writes of a descriptor, and of all its duplicates, go on. */
export function seekFile(fd: number, position: number): void {
  native().lseek(fd, position, SEEK_SET);
}
