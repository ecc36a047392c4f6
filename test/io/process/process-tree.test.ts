import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { processTree } from '../../../src/io/process/process-tree.js';

test('the tree of a process has its children, and theirs', async () => {
  const child = spawn('sh', ['-c', 'sleep 600 & echo $!; wait'], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const [line] = await once(child.stdout, 'data');
    const grandchild = Number(String(line));
    const tree = processTree(process.pid);
    assert.equal(tree[0], process.pid);
    assert.ok(tree.includes(child.pid as number), `the child is not among ${tree}`);
    assert.ok(tree.includes(grandchild), `the grandchild is not among ${tree}`);
    process.kill(grandchild, 'SIGKILL');
  } finally {
    child.kill('SIGKILL');
  }
});

test('a process that has ended has no children', () => {
  assert.deepEqual(processTree(2 ** 22 + 1), [2 ** 22 + 1]);
});
