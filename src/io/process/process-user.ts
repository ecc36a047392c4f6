/** Which users a process belongs to, and what they are called. */
import { readFileSync } from 'node:fs';

/**
 * The four user ids of a process: real, effective, saved, and that of its rights on files. They differ for programs with a setuid
 * bit and for those that have dropped some of their rights.
 *
 * @throws the system error of open(2); `ENOENT` when the process is gone
 */
export function processUsers(pid: number): [real: number, effective: number, saved: number, files: number] {
  const [, ids] = /^Uid:((?:\s+\d+){4})$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  if (ids === undefined) throw new Error(`/proc/${pid}/status names no users`);
  return ids.trim().split(/\s+/).map(Number) as [number, number, number, number];
}

/** What /etc/passwd calls a user; undefined for one that it does not list. */
export function userName(uid: number): string | undefined {
  try {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const [name, , id] = line.split(':');
      if (name && id !== undefined && /^\d+$/.test(id) && Number(id) === uid) return name;
    }
  } catch {
    // Hosts whose users are kept elsewhere.
  }
  return undefined;
}

/** A user for a message: `alice (uid 1000)`, or `uid 1000` for one without a name. */
export function describeUser(uid: number, name = userName(uid)): string {
  return name === undefined ? `uid ${uid}` : `${name} (uid ${uid})`;
}
