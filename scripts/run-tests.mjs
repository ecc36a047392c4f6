// Finds compiled tests and runs them with node:test, for scripts/test.mjs and scripts/test-nodes.mjs.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
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

/** Says what is done, does it, and says how long it took. */
export function step(what, work) {
  const startedAt = performance.now();
  console.log(`▷ ${what} …`);
  const result = work();
  console.log(`▷ ${what}: ${minutes(performance.now() - startedAt)}`);
  return result;
}

/** `43 s`, `12 min`. */
export function minutes(ms) {
  return ms < 90_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
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
  // Tests that run as other users enter it.
  chmodSync(folder, 0o755);
  const temporary = path.join(folder, 'tmp');
  mkdirSync(temporary);
  chmodSync(temporary, 0o1777);
  const own = path.join(folder, 'own');
  mkdirSync(own, { mode: 0o700 });
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
          XDG_RUNTIME_DIR: own,
          // So is the key that proves who has saved a file, and the list of trusted signers: the user's own are not touched.
          XDG_CONFIG_HOME: own,
          // What a test leaves in the folder for temporary files goes with the run, and is named.
          TMPDIR: temporary,
        },
      },
    );
    const left = readdirSync(temporary).filter((name) => name.startsWith('mapram-'));
    if (left.length > 0) console.log(`▷ tests have left behind, and it is removed now: ${left.join(', ')}`);
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
