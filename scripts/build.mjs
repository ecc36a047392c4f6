// Builds the package: type-checks src and writes dist (JavaScript, declarations, manual page), puts what each thread loads into
// one file, and the command line into dist/bin.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { build } from 'esbuild';

const root = path.dirname(import.meta.dirname);
rmSync(path.join(root, 'dist'), { recursive: true, force: true });
const tsc = path.join(
  path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
  'bin',
  'tsc',
);
run(tsc, '-p', path.join(root, 'tsconfig.build.json'));
const dist = path.join(root, 'dist');
const bin = path.join(dist, 'bin');
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));

/**
 * Modules that name files beside themselves go on doing so in a bundle, wherever that lies. The version is known by now.
 */
const asInPlace = {
  name: 'as-in-place',
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, async ({ path: file }) => {
      if (!file.startsWith(dist)) return undefined;
      if (path.relative(dist, file) === 'package-version.js') {
        return { contents: `export const packageVersion = () => ${JSON.stringify(version)};` };
      }
      const text = await readFile(file, 'utf8');
      const place = JSON.stringify(path.relative(dist, file));
      return {
        contents: text
          .replaceAll('import.meta.url', `new URL(${place}, distUrl).href`)
          .replaceAll(
            'import.meta.dirname',
            `decodeURI(new URL(${place.replace(/[^/"]*"$/, '"')}, distUrl).pathname)`,
          ),
      };
    });
  },
};
/** Parts of Node that take a while to load and that most commands need late or never. */
const LAZY = [
  'child_process',
  'crypto',
  'fs/promises',
  'http',
  'net',
  'readline',
  'stream/promises',
  'timers/promises',
  'worker_threads',
  'zlib',
];
/** Packages with compiled code, which are loaded as they are. */
const NATIVE = ['koffi', '@node-rs/xxhash'];
const asOneScript = {
  bundle: true,
  minifySyntax: true,
  minifyWhitespace: true,
  external: NATIVE,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  charset: 'ascii',
  logLevel: 'warning',
  plugins: [asInPlace],
};
/** What the modules of a bundle in `folder` find instead of `import.meta`. */
const banner = (folder) => ({
  js: [
    `"use strict";const distUrl=new URL(${JSON.stringify(path.join(path.relative(folder, dist), '/'))},`,
    'require("node:url").pathToFileURL(__filename)).href;',
  ].join(''),
});
/** How a part of Node is loaded when it is used. */
const LAZILY =
  'const lazily=(name)=>{let module;return new Proxy({},{get:(_,key)=>(module??=require(name))[key]})};';
/** Commands that get a script of their own, which is read faster than that of all: those that a VM waits for, or a person many times. */
const QUICK = ['save', 'restore', 'resume', 'fork', 'inspect', 'verify'];

await bundleWorkers();
await bundleCommandLine();
for (const name of ['command-line', ...QUICK])
  run(path.join(import.meta.dirname, 'compile-ahead.mjs'), bin, name);
const built = (name) => import(path.join(dist, 'cli', name));
const [{ commandTree }, { manPage }, { createProgram }, { allCommands }] = await Promise.all(
  ['command-tree.js', 'man-page.js', 'program.js', 'registry.js'].map(built),
);
writeFileSync(path.join(dist, 'mapram.1'), manPage(commandTree(createProgram(await allCommands()))));

function run(script, ...args) {
  const { status } = spawnSync(process.execPath, [script, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * Node finds, reads and compiles every module on its own, which takes longer than a thread's work on a small VM, and than a guest
 * whose save was killed should wait for its guard. So each thread, and the guard, is one file, see src/io/worker-script.ts.
 */
async function bundleWorkers() {
  const beginnings = readdirSync(dist, { recursive: true })
    .filter((name) => /(-worker|-thread|guard-process|lazy-server-process)\.js$/.test(name))
    .map((name) => path.join(dist, name));
  for (const beginning of beginnings) {
    await build({
      ...asOneScript,
      entryPoints: [beginning],
      outfile: beginning.replace(/js$/, 'cjs'),
      banner: banner(path.dirname(beginning)),
    });
  }
  for (const beginning of beginnings) rmSync(beginning);
}

/**
 * The command line in one script, and some commands in one each, with the packages that they use but for those that are no
 * JavaScript. Modules are initialized when they are first imported, so a command pays for what it needs. The library stays as
 * tsc wrote it.
 */
async function bundleCommandLine() {
  mkdirSync(bin, { recursive: true });
  const inputs = [await bundle('command-line', "export { run } from './run.js';")];
  for (const name of QUICK) {
    const entry = `import { runProgram } from './program.js';
      import { ${name} } from './commands/${name}.js';
      export const run = (argv) => runProgram([${name}], argv);`;
    inputs.push(await bundle(name, entry));
  }
  writeFileSync(path.join(bin, 'licenses.txt'), licenses(inputs.flat()));
  const command = path.join(bin, 'mapram.cjs');
  copyFileSync(path.join(import.meta.dirname, 'launcher.cjs'), command);
  chmodSync(command, 0o755);
}

/** Returns the files that have become part of it. */
async function bundle(name, entry) {
  const { outputFiles, metafile } = await build({
    stdin: { contents: entry, resolveDir: path.join(dist, 'cli') },
    ...asOneScript,
    metafile: true,
    write: false,
    banner: { js: banner(bin).js + LAZILY },
  });
  const text = outputFiles[0].text.replaceAll(
    /([^(\w$])require\("(?:node:)?([\w/]+)"\)/g,
    (whole, before, module) => (LAZY.includes(module) ? `${before}lazily("node:${module}")` : whole),
  );
  writeFileSync(path.join(bin, `${name}.cjs`), text);
  return Object.keys(metafile.inputs);
}

/** Of the packages that have become part of a bundle. */
function licenses(inputs) {
  const folders = new Set(
    inputs.flatMap((input) => /.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path.resolve(input))?.[0] ?? []),
  );
  return [...folders]
    .sort()
    .map((folder) => {
      const { name, version: of } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
      const license = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
      if (license === undefined) throw new Error(`${name} has no license file.`);
      return `${name} ${of}\n\n${readFileSync(path.join(folder, license), 'utf8').trim()}\n`;
    })
    .join('\n\n');
}
