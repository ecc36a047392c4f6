// Builds the package: type-checks src and writes dist (JavaScript, declarations, manual page), puts what each thread loads into
// one file, then marks the command executable.
import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
const { status } = spawnSync(process.execPath, [tsc, '-p', path.join(root, 'tsconfig.build.json')], {
  stdio: 'inherit',
});
if (status !== 0) process.exit(status ?? 1);
const dist = path.join(root, 'dist');
/** Modules that name files beside themselves go on doing so in a bundle, which lies one folder deep like `dist/cli`. */
const keepPlaces = {
  name: 'keep-places',
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, 'utf8');
      const place = JSON.stringify(`../${path.relative(dist, file)}`);
      return {
        contents: text
          .replaceAll('import.meta.url', `new URL(${place}, import.meta.url).href`)
          .replaceAll(
            'import.meta.dirname',
            `decodeURI(new URL(${place.replace(/[^/]*$/, '"')}, import.meta.url).pathname)`,
          ),
      };
    });
  },
};
await bundle();
const built = (name) => import(path.join(root, 'dist', 'cli', name));
const [{ commandTree }, { manPage }, { createProgram }, { allCommands }] = await Promise.all(
  ['command-tree.js', 'man-page.js', 'program.js', 'registry.js'].map(built),
);
writeFileSync(path.join(root, 'dist', 'mapram.1'), manPage(commandTree(createProgram(await allCommands()))));
chmodSync(path.join(root, 'dist', 'cli', 'main.js'), 0o755);

/**
 * Node finds, reads and compiles every module on its own: a hundred of them take longer than a small VM to save. So the command line
 * becomes a few files, in which each command brings only what it needs, and each thread, and the guard of a save, becomes one. The library stays as it is.
 */
async function bundle() {
  const options = {
    outdir: dist,
    outbase: dist,
    allowOverwrite: true,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
  };
  const beginnings = readdirSync(dist, { recursive: true }).filter((name) =>
    /(-worker|guard-process)\.js$/.test(name),
  );
  await build({ ...options, entryPoints: beginnings.map((name) => path.join(dist, name)) });
  await build({
    ...options,
    entryPoints: [path.join(dist, 'cli', 'main.js')],
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    plugins: [keepPlaces],
  });
}
