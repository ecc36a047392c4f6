import { readFileSync } from 'node:fs';

/**
 * Reads files of /proc with a line `Name:  123 kB` for each figure: /proc/meminfo, /proc/PID/status.
 *
 * @returns bytes by name; undefined for a name that the kernel does not list
 */
export function readKibFields(file: string): (name: string) => number | undefined {
  const text = readFileSync(file, 'latin1');
  return (name) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  };
}
