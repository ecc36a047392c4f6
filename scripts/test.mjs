// `npm test`: lint, type check, then every test.   --unit: only the tests that need no QEMU.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const unitOnly = process.argv.includes('--unit');
const run = (command, args) => {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};
run('npx', ['biome', 'ci', '--error-on-warnings', '.']);
rmSync(path.join(root, 'build'), { recursive: true, force: true });
run('npx', ['tsc', '-p', 'tsconfig.json']);
const tests = readdirSync(path.join(root, 'build', 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.js') && !(unitOnly && name.startsWith(`qemu${path.sep}`)))
  .map((name) => path.join('build', 'test', name))
  .sort();
run(process.execPath, ['--enable-source-maps', '--test', '--test-concurrency=2', ...tests]);
