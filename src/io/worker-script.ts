import { existsSync } from 'node:fs';
import { placeOfModule, separatedByBundler } from './package-files.js';

/**
 * Options of Node.js for a thread. It would inherit those of this process, and refuse to run a file where `--input-type` says what the
 * text of `--eval` is.
 */
export function threadArguments(): { execArgv?: string[] } {
  const { execArgv } = process;
  return execArgv.some((word) => word.startsWith('--input-type')) ? { execArgv: [] } : {};
}

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
