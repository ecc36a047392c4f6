/** The ways to install mapram that README names, each in an empty folder, and what happens where it is bundled. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { build } from 'esbuild';
import { repositoryRoot } from '../support/environment.js';
import { registryProblem } from '../support/registry.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** An unprivileged user on every Linux. */
const NOBODY = 65534;

const work = temporaryFolder('install');

function run(
  cwd: string,
  command: readonly string[],
  options: { uid?: number; env?: NodeJS.ProcessEnv } = {},
) {
  const { uid, env } = options;
  const [program = '', ...args] = command;
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, npm_config_audit: 'false', npm_config_fund: 'false', ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  assert.equal(status, 0, `${command.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

function emptyFolder(name: string): string {
  const folder = path.join(work, name);
  mkdirSync(folder);
  return folder;
}

describe('from a git repository', { skip: registryProblem() }, () => {
  const repository = path.join(work, 'repository');
  const url = `git+file://${repository}`;

  before(() => {
    mkdirSync(repository);
    for (const name of readdirSync(repositoryRoot)) {
      if (['.git', '.cache', 'build', 'dist', 'node_modules'].includes(name)) continue;
      cpSync(path.join(repositoryRoot, name), path.join(repository, name), { recursive: true });
    }
    const git = ['git', '-c', 'user.name=test', '-c', 'user.email=test@example.com'];
    run(repository, ['git', 'init', '--quiet']);
    run(repository, ['git', 'add', '--all']);
    run(repository, [...git, 'commit', '--quiet', '--message=test']);
  });

  test('npm install URL gives a library that can be imported', () => {
    const folder = emptyFolder('library');
    writeFileSync(path.join(folder, 'package.json'), '{"private":true}\n');
    run(folder, ['npm', 'install', '--prefer-offline', url]);
    const script = "import('mapram').then(({ save }) => console.log(typeof save))";
    assert.equal(run(folder, [process.execPath, '--eval', script]), 'function\n');
    assert.equal(run(folder, [process.execPath, '--print', "typeof require('mapram').save"]), 'function\n');
    assert.match(run(folder, ['npx', '--no-install', 'mapram', '--version']), /^\d+\.\d+\.\d+\n$/);
  });
});

describe('from a tarball', { skip: registryProblem() }, () => {
  let tarball: string;

  before(() => {
    const [{ filename }] = JSON.parse(
      run(repositoryRoot, ['npm', 'pack', '--json', '--ignore-scripts', '--pack-destination', work]),
    );
    tarball = path.join(work, filename);
  });

  test('npm install --global puts the command on the PATH and its page where man looks', () => {
    const prefix = emptyFolder('global');
    run(prefix, ['npm', 'install', '--global', '--prefix', prefix, '--prefer-offline', tarball]);
    assert.match(run(prefix, [path.join(prefix, 'bin', 'mapram'), '--version']), /^\d+\.\d+\.\d+\n$/);
    assert.ok(existsSync(path.join(prefix, 'share', 'man', 'man1', 'mapram.1')), 'no manual page');
  });

  test('an unprivileged user installs it with a prefix of their own', {
    skip: process.getuid?.() !== 0,
  }, () => {
    const home = temporaryFolder('home');
    try {
      chmodSync(home, 0o777);
      chmodSync(work, 0o755);
      chmodSync(tarball, 0o644);
      const env = { HOME: home, npm_config_cache: path.join(home, 'cache') };
      const prefix = path.join(home, 'prefix');
      const options = { uid: NOBODY, env };
      run(home, ['npm', 'install', '--global', '--prefix', prefix, tarball], options);
      const shown = run(home, [path.join(prefix, 'bin', 'mapram'), '--version'], options);
      assert.match(shown, /^\d+\.\d+\.\d+\n$/);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});

describe('in a bundle', () => {
  for (const format of ['esm', 'cjs'] as const) {
    const extension = format === 'esm' ? 'mjs' : 'cjs';
    const entry = `
      import { BuiltinGuest, save } from ${JSON.stringify(path.join(repositoryRoot, 'src', 'index.ts'))};
      const guest = BuiltinGuest.start({ size: 16 << 20 });
      guest.then((vm) => save({ vm, file: process.argv[2] })).then(() => console.log('saved'))`;

    test(`${format}: an error says that mapram has to stay outside (B13)`, async () => {
      const folder = emptyFolder(`bundle-${format}`);
      const outfile = path.join(folder, `app.${extension}`);
      await build({
        stdin: { contents: entry, resolveDir: repositoryRoot },
        bundle: true,
        platform: 'node',
        target: 'node20',
        format,
        outfile,
        logLevel: 'silent',
        external: ['koffi', '@node-rs/xxhash'],
      });
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [outfile, path.join(folder, 'vm.mapram')],
        {
          encoding: 'utf8',
          // Packages with compiled code stay outside, as bundlers leave them.
          env: { ...process.env, NODE_PATH: path.join(repositoryRoot, 'node_modules') },
        },
      );
      assert.equal(status, 1, stdout);
      assert.match(stderr, /exclude it from the bundle/);
    });
  }

  for (const layer of ['stream', 'options']) {
    test(`mapram/${layer} works inside: it loads nothing at run time`, async () => {
      const folder = emptyFolder(`bundle-${layer}`);
      const outfile = path.join(folder, 'app.mjs');
      const { metafile } = await build({
        stdin: {
          contents: `
            import * as layer from ${JSON.stringify(path.join(repositoryRoot, 'src', layer, 'index.ts'))};
            const { StreamParser, qemuProfile, defaultParameters } = layer;
            if (StreamParser) new StreamParser({ name: 'bytes' }).push(Buffer.from('QEVM'));
            if (qemuProfile) defaultParameters(qemuProfile('10.0'));
            console.log('works');`,
          resolveDir: repositoryRoot,
        },
        bundle: true,
        platform: 'node',
        target: 'node20',
        format: 'esm',
        outfile,
        logLevel: 'silent',
        metafile: true,
      });
      assert.equal(run(folder, [process.execPath, outfile]), 'works\n');
      const packages = Object.keys(metafile.inputs).filter((file) => file.includes('node_modules'));
      assert.deepEqual(packages, [], 'it needs packages');
    });
  }
});
