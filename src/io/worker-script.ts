import { existsSync } from 'node:fs';
import { placeOfModule, separatedByBundler } from './package-files.js';

/**
 * The script of a thread or process next to the module that starts it: in the package one CommonJS file with everything it
 * loads, which Node.js starts 6 ms sooner than modules.
 *
 * @param name without its extension
 * @param module `import.meta.url`
 * @throws MapramError `UNSUPPORTED` when a bundler has moved the module away from its scripts
 */
export function workerScript(name: string, module: string | undefined): URL {
  const place = placeOfModule(module, `the script ${name}`);
  const script = ['cjs', 'js']
    .map((end) => new URL(`./${name}.${end}`, place))
    .find((file) => existsSync(file));
  if (script === undefined) throw separatedByBundler(`the script ${name}`);
  return script;
}
