/** What `npm pack` makes of this repository, and what a user gets from it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { Script } from 'node:vm';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { repositoryRoot } from '../support/environment.js';
import { registryProblem } from '../support/registry.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const work = temporaryFolder('package');
/** Packing builds; a copy keeps the build of the working tree out of it. */
const copy = path.join(work, 'repository');
const manifest = JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8'));
let tarball: string;
let packed: string[];

before(() => {
  mkdirSync(copy);
  for (const name of readdirSync(repositoryRoot)) {
    if (['.git', '.cache', 'build', 'dist', 'node_modules'].includes(name)) continue;
    cpSync(path.join(repositoryRoot, name), path.join(copy, name), { recursive: true });
  }
  symlinkSync(path.join(repositoryRoot, 'node_modules'), path.join(copy, 'node_modules'));
  const [{ filename, files }] = JSON.parse(npm(copy, 'pack', '--json', '--pack-destination', work)) as [
    { filename: string; files: { path: string }[] },
  ];
  tarball = path.join(work, filename);
  packed = files.map((file) => file.path).sort();
});

function npm(cwd: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('npm', args, { cwd, encoding: 'utf8' });
  assert.equal(status, 0, `npm ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** What can be imported as `mapram/…`. */
const LAYERS = ['mapped-ram', 'stream', 'monitor', 'qmp', 'options'];

/** The command line, and commands that have a script of their own. */
const SCRIPTS = ['command-line', 'save', 'restore', 'resume', 'fork', 'inspect', 'verify'];

/** Threads, the guard and the server of a snapshot, each of them one script. */
const STARTS_BY_ITSELF = /(-worker|-thread|guard-process|lazy-server-process)\.ts$/;

test('the package holds what runs, and nothing else', () => {
  const sources = (readdirSync(path.join(repositoryRoot, 'src'), { recursive: true }) as string[])
    .filter((name) => path.extname(name) !== '')
    // What a browser loads lies in the package as it is here.
    .flatMap((name) =>
      name.endsWith('.ts')
        ? [STARTS_BY_ITSELF.test(name) ? '.cjs' : '.js', '.d.ts'].map(
            (ending) => `dist/${name.replace(/\.ts$/, ending)}`,
          )
        : [`src/${name}`],
    );
  const commandLine = [
    'mapram.cjs',
    'licenses.txt',
    ...SCRIPTS.flatMap((name) => [`${name}.cjs`, `${name}.code`]),
  ];
  const expected = [
    ...['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json', 'dist/mapram.1'],
    ...commandLine.map((name) => `dist/bin/${name}`),
    ...readdirSync(path.join(repositoryRoot, 'schemas')).map((name) => `schemas/${name}`),
    ...sources,
  ];
  assert.deepEqual(packed, expected.sort());
});

test('it exports the library, its lower layers and its own package.json', () => {
  const entry = (folder: string) => ({
    types: `./dist/${folder}index.d.ts`,
    default: `./dist/${folder}index.js`,
  });
  assert.deepEqual(manifest.exports, {
    '.': entry(''),
    ...Object.fromEntries(LAYERS.map((layer) => [`./${layer}`, entry(`${layer}/`)])),
    './package.json': './package.json',
  });
  assert.deepEqual(manifest.bin, { mapram: './dist/bin/mapram.cjs' });
});

test('it depends on these packages only', () => {
  const reasons: Record<string, string> = {
    '@node-rs/xxhash': 'checksums',
    'age-encryption': 'wraps the keys of encrypted stores',
    aws4fetch: 'signs requests to S3',
    commander: 'arguments and help',
    koffi: 'system calls that Node has no function for',
    'log-update': 'the progress bar',
    valibot: 'the shapes of what comes from outside',
  };
  assert.deepEqual(Object.keys(manifest.dependencies), Object.keys(reasons));
  assert.equal(manifest.optionalDependencies, undefined);
  assert.equal(manifest.peerDependencies, undefined);
});

test('it needs no script to be installed', () => {
  for (const script of ['preinstall', 'install', 'postinstall'])
    assert.equal(manifest.scripts[script], undefined);
});

test('the command has its code compiled, and runs where that is of another V8', () => {
  const bin = path.join(copy, 'dist', 'bin');
  const text = (name: string) => readFileSync(path.join(bin, name), 'latin1');
  for (const name of SCRIPTS) {
    const cachedData = readFileSync(path.join(bin, `${name}.code`));
    const script = new Script(asFunction(text(`${name}.cjs`)), { cachedData });
    assert.equal(script.cachedDataRejected, false, name);
  }
  const version = () => spawnSync(path.join(bin, 'mapram.cjs'), ['--version'], { encoding: 'utf8' });
  assert.equal(version().stdout, `${manifest.version}\n`);
  // V8 takes no code that another version of it has made; its first bytes tell.
  const code = readFileSync(path.join(bin, 'command-line.code'));
  writeFileSync(path.join(bin, 'command-line.code'), code.fill(0, 0, 16));
  assert.equal(version().stdout, `${manifest.version}\n`);
  rmSync(path.join(bin, 'command-line.code'));
  assert.equal(version().stdout, `${manifest.version}\n`);
});

test('the licenses of the packages in the command are there', () => {
  const text = readFileSync(path.join(copy, 'dist', 'bin', 'licenses.txt'), 'utf8');
  for (const name of ['commander', 'valibot', 'log-update']) {
    assert.match(text, new RegExp(`^${name} \\d`, 'm'));
  }
});

test('publint finds nothing', async () => {
  const { messages, pkg } = await publint({
    strict: true,
    pack: { tarball: bytesOf(tarball) },
  });
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  );
});

test('the types are right for every way of importing it', () => {
  const cli = createRequire(import.meta.url).resolve('@arethetypeswrong/cli/package.json');
  const program = path.join(path.dirname(cli), JSON.parse(readFileSync(cli, 'utf8')).bin.attw);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [program, tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-emoji'],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stdout + stderr);
  // What the profile ignores: resolutions older than `exports`, and require(), which answers with the module itself now.
  const counted = stdout.replaceAll(/^.*\(ignored.*$/gm, '');
  assert.doesNotMatch(
    counted,
    /❌|⚠|NoResolution|UntypedResolution|FalseCJS|FalseESM|InternalResolutionError/,
  );
  const checked = stdout.matchAll(/node16 \(from ESM\): OK \(ESM\)/g);
  assert.equal([...checked].length, 1 + LAYERS.length, stdout);
});

describe('installed in an empty folder', { skip: registryProblem() }, () => {
  const folder = path.join(work, 'user');
  const run = (...command: [string, ...string[]]) => {
    const [program, ...args] = command;
    // No compiler and no QEMU: node, npm and npx alone.
    const env = {
      ...process.env,
      PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin`,
      CC: 'false',
      CXX: 'false',
    };
    return spawnSync(program, args, { cwd: folder, encoding: 'utf8', env });
  };

  before(() => {
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'package.json'), '{"private":true,"type":"module"}\n');
    npm(folder, 'install', '--prefer-offline', '--ignore-scripts', tarball);
  });

  test('npx mapram doctor works', () => {
    const { status, stdout, stderr } = run('npx', '--no-install', 'mapram', 'doctor', folder);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^runtime: .*koffi \d/m);
  });

  /** The other lines that `npm run test:nodes` runs all tests under; their packages hold the runtime and nothing else. */
  for (const major of ['22', '24', '26']) {
    test(`the whole round works under Node.js ${major}`, () => {
      const name = `node-${process.platform}-${process.arch}`;
      const place = path.join(work, `node-${major}`);
      mkdirSync(place);
      writeFileSync(path.join(place, 'package.json'), '{"private":true}\n');
      npm(place, 'install', '--prefer-offline', '--no-audit', '--no-fund', `${name}@${major}`);
      const node = path.join(place, 'node_modules', name, 'bin', 'node');
      assert.match(run(node, '--version').stdout, new RegExp(`^v${major}\\.`));
      const program = path.join(folder, 'node_modules', 'mapram', 'dist', 'cli', 'main.js');
      const { status, stdout, stderr } = run(node, program, 'demo', work);
      assert.equal(status, 0, stderr);
      assert.match(stdout, /\nAll good in /);
    });
  }

  test('the manual page and no file of the repository beside it', () => {
    const installed = path.join(folder, 'node_modules', 'mapram');
    assert.match(readFileSync(path.join(installed, 'dist', 'mapram.1'), 'utf8'), /^\.TH MAPRAM 1/);
    assert.equal(existsSync(path.join(installed, 'test')), false);
  });

  test('the library can be imported and used', () => {
    const script = `
      import { BuiltinGuest, inspect, save } from 'mapram';
      import { MappedRamImage } from 'mapram/mapped-ram';
      import { monitorInFrontOf } from 'mapram/monitor';
      import { qemuProfile } from 'mapram/options';
      import { QmpClient } from 'mapram/qmp';
      import { StreamParser } from 'mapram/stream';
      for (const imported of [MappedRamImage, monitorInFrontOf, qemuProfile, QmpClient, StreamParser])
        if (typeof imported !== 'function') throw new Error('a layer lacks something');
      await using guest = await BuiltinGuest.start({ size: 16 << 20 });
      await save({ vm: guest, file: 'vm.mapram' });
      console.log((await inspect({ file: 'vm.mapram' })).complete);`;
    writeFileSync(path.join(folder, 'use.ts'), script);
    const tsc = run(
      process.execPath,
      ...[typescript(), '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2023,esnext.disposable'],
      ...['--strict', '--types', 'node', '--typeRoots', path.join(repositoryRoot, 'node_modules', '@types')],
      'use.ts',
    );
    assert.equal(tsc.status, 0, tsc.stdout);
    const { status, stdout, stderr } = run(process.execPath, 'use.js');
    assert.deepEqual([status, stdout, stderr], [0, 'true\n', '']);
  });
});

/** As the launcher wraps it. */
function asFunction(text: string): string {
  return `(function (exports, require, module, __filename, __dirname) {${text}\n})`;
}

function typescript(): string {
  const manifestPath = createRequire(import.meta.url).resolve('typescript/package.json');
  return path.join(path.dirname(manifestPath), 'bin', 'tsc');
}

function bytesOf(file: string): ArrayBuffer {
  const bytes = readFileSync(file);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
}
