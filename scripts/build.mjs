// Builds the package: type-checks src and writes dist (JavaScript, declarations, manual page), then marks the command
// executable.
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

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
const built = (name) => import(path.join(root, 'dist', 'cli', name));
const [{ commandTree }, { manPage }, { createProgram }, { allCommands }] = await Promise.all(
  ['command-tree.js', 'man-page.js', 'program.js', 'registry.js'].map(built),
);
writeFileSync(path.join(root, 'dist', 'mapram.1'), manPage(commandTree(createProgram(await allCommands()))));
chmodSync(path.join(root, 'dist', 'cli', 'main.js'), 0o755);
