import { fstatSync, readdirSync, readlinkSync, statSync } from 'node:fs';

/**
 * The other processes that have the file of `fd` open, of those that this user may look into. Meant for a file whose name is its own,
 * such as a memfd with a random one: a file of another name is not looked at, which could take for ever on a file system of the network.
 */
export function holdersOf(fd: number): number[] {
  const name = readlinkSync(`/proc/self/fd/${fd}`);
  const { dev, ino } = fstatSync(fd);
  return entriesOf('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) =>
      entriesOf(`/proc/${pid}/fd`).some((entry) => leadsTo(`/proc/${pid}/fd/${entry}`, name, { dev, ino })),
    );
}

function leadsTo(link: string, name: string, file: { dev: number; ino: number }): boolean {
  try {
    if (readlinkSync(link) !== name) return false;
    const { dev, ino } = statSync(link);
    return dev === file.dev && ino === file.ino;
  } catch {
    // Closed in the meantime.
    return false;
  }
}

/** None of what has ended, or belongs to another user. */
function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
