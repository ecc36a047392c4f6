/** What a newcomer types first, according to README, works in a fresh copy of the repository, the demo included. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { packageVersion } from '../../src/package-version.js';
import { programPath, repositoryRoot } from '../support/environment.js';
import { registryProblem } from '../support/registry.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { codeBlocks, isFirstTry } from './documents.js';

test('npm ci && npm run demo, npm ci && npm test, npm link', { skip: registryProblem() }, () => {
  const root = temporaryFolder('readme');
  try {
    const copy = path.join(root, 'mapram');
    mkdirSync(copy);
    for (const name of readdirSync(repositoryRoot)) {
      if (['.git', '.cache', 'build', 'dist', 'node_modules'].includes(name)) continue;
      cpSync(path.join(repositoryRoot, name), path.join(copy, name), { recursive: true });
    }
    // Biome wants to know what git ignores.
    assert.equal(spawnSync('git', ['init', '-q', copy]).status, 0);
    const programs = path.join(root, 'programs');
    mkdirSync(programs);
    // This test is itself a part of `npm test`, so there it runs one file instead of all.
    const npm = `#!/bin/sh
test "$*" = test && set -- test -- --unit test/errors
exec '${programPath('npm')}' "$@"
`;
    writeFileSync(path.join(programs, 'npm'), npm, { mode: 0o755 });

    const [first] = codeBlocks('README.md', 'sh').filter(isFirstTry);
    assert.ok(first, 'README does not say how to begin');
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync('/bin/bash', ['-euc', first.code], {
      cwd: copy,
      encoding: 'utf8',
      env: {
        ...env,
        PATH: `${programs}:${env.PATH}`,
        // Where npm link installs.
        npm_config_prefix: path.join(root, 'prefix'),
        // npm ci takes packages from the cache of the one before where it can.
        npm_config_prefer_offline: 'true',
      },
    });
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /^All good in [\d.]+ m?s\. The file is removed again\.$/m);
    const linked = spawnSync(path.join(root, 'prefix', 'bin', 'mapram'), ['--version'], { encoding: 'utf8' });
    assert.equal(linked.stdout, `${packageVersion()}\n`, linked.stderr);
    assert.match(stdout, /^[1-9]\d* passed, 0 failed, 0 skipped$/m);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
