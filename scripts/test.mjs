// `npm test`: lint, type check, then every test; those with real virtual machines one file at a time.
//
//   node scripts/test.mjs [--unit] [PART OF A TEST'S PATH …]
//
// --unit leaves out the tests in test/qemu. MAPRAM_TEST_QEMU=required fails where they would be skipped.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { prepareVmEnvironment } from './vm-environment.mjs';

const root = path.dirname(import.meta.dirname);
const unitOnly = process.argv.includes('--unit');
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** Runs test files with node:test and gives its counts, or undefined when it broke down before counting. */
function runTests(files, concurrency) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-test-'));
  try {
    const counts = path.join(folder, 'counts.json');
    const { status } = spawnSync(
      process.execPath,
      [
        '--enable-source-maps',
        '--test',
        `--test-concurrency=${concurrency}`,
        '--test-timeout=900000',
        '--test-reporter=spec',
        '--test-reporter-destination=stdout',
        `--test-reporter=${path.join(root, 'scripts', 'count-reporter.mjs')}`,
        `--test-reporter-destination=${counts}`,
        ...files,
      ],
      // The records of saves under way are private to the run: what others have left behind is no finding of these tests.
      { cwd: root, stdio: 'inherit', env: { ...process.env, XDG_RUNTIME_DIR: folder } },
    );
    const { pass, fail, cancelled, skipped } = JSON.parse(readFileSync(counts, 'utf8'));
    return { passed: pass, failed: Math.max(fail + cancelled, status === 0 ? 0 : 1), skipped };
  } catch (error) {
    console.error(`The test runner broke down: ${error.message}`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

run('npx', ['biome', 'ci', '--error-on-warnings', '.']);
rmSync(path.join(root, 'build'), { recursive: true, force: true });
run('npx', ['tsc', '-p', 'tsconfig.json']);
run('npx', ['tsc', '-p', 'tsconfig.page.json']);

const files = readdirSync(path.join(root, 'build', 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.js'))
  .map((name) => path.join('build', 'test', name))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort();
const needsQemu = (name) => name.startsWith(path.join('build', 'test', 'qemu') + path.sep);
const groups = [[files.filter((name) => !needsQemu(name)), 2]];
if (!unitOnly && files.some(needsQemu)) {
  try {
    await prepareVmEnvironment({ required: process.env.MAPRAM_TEST_QEMU === 'required' });
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  groups.push([files.filter(needsQemu), 1]);
}

const total = { passed: 0, failed: 0, skipped: 0 };
for (const [group, concurrency] of groups) {
  if (group.length === 0) continue;
  const counts = runTests(group, concurrency);
  for (const key of Object.keys(total)) total[key] += counts[key];
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
