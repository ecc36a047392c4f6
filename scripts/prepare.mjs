// npm's `prepare`: builds after `npm ci` in a checkout and when the package is installed from git. Without the development
// packages (`npm ci --omit=dev`) there is nothing to build with, and nothing is built.
import { existsSync } from 'node:fs';
import path from 'node:path';

const modules = path.join(path.dirname(import.meta.dirname), 'node_modules');
if (existsSync(path.join(modules, 'esbuild')) && existsSync(path.join(modules, 'typescript'))) {
  await import('./build.mjs');
} else {
  console.warn('mapram is not built: install its development packages too (npm ci), then npm run build');
}
