// Finds compiled tests and runs them with node:test, for scripts/test.mjs and scripts/test-nodes.mjs.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const root = path.dirname(import.meta.dirname);

/** Type-checks everything and compiles it into `build`, from nothing. */
export function compile() {
  rmSync(path.join(root, 'build'), { recursive: true, force: true });
  run('npx', ['tsc', '-p', 'tsconfig.json']);
  run('npx', ['tsc', '-p', 'tsconfig.page.json']);
}

/** Ends this process when the command fails. */
export function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** Compiled test files whose path contains one of these words, all without any. */
export function testFiles(words) {
  return readdirSync(path.join(root, 'build', 'test'), { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => path.join('build', 'test', name))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .sort();
}

export const needsQemu = (file) => file.startsWith(path.join('build', 'test', 'qemu') + path.sep);

/**
 * Runs test files under `node`, whose folder comes first in PATH, and gives node:test's counts; a breakdown counts as a failure.
 * A file that has not ended after `timeoutMs` fails.
 */
export function runTests(files, { concurrency, timeoutMs, node = process.execPath }) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-test-'));
  try {
    const counts = path.join(folder, 'counts.json');
    const { status } = spawnSync(
      node,
      [
        '--enable-source-maps',
        '--test',
        `--test-concurrency=${concurrency}`,
        `--test-timeout=${timeoutMs}`,
        '--test-reporter=spec',
        '--test-reporter-destination=stdout',
        `--test-reporter=${path.join(root, 'scripts', 'count-reporter.mjs')}`,
        `--test-reporter-destination=${counts}`,
        ...files,
      ],
      {
        cwd: root,
        stdio: 'inherit',
        env: {
          ...process.env,
          PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}`,
          // The records of saves under way are private to the run: what others have left behind is no finding of these tests.
          XDG_RUNTIME_DIR: folder,
          // So is the key that proves who has saved a file, and the list of trusted signers: the user's own are not touched.
          XDG_CONFIG_HOME: folder,
        },
      },
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

export const summary = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;
