import { readdirSync, readFileSync } from 'node:fs';

/** Process `pid`, and those that it has started and that have not ended, theirs included. */
export function processTree(pid: number): number[] {
  const tree = [pid];
  // Grows while it is walked.
  for (const parent of tree) tree.push(...childrenOf(parent));
  return tree;
}

/** From /proc/PID/task/TID/children; none where the process has ended or belongs to another user. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}
