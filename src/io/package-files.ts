/** Packages and scripts that are loaded as files of their own, and what to say where a bundler has separated mapram from them. */
import { createRequire } from 'node:module';
import { MapramError } from '../errors.js';

/**
 * Loads a package with compiled code, which no bundle can contain.
 *
 * @param module `import.meta.url`
 * @throws MapramError `UNSUPPORTED` in a bundle without it
 */
export function requirePackage<T>(name: string, module: string | undefined): T {
  return createRequire(placeOfModule(module, name))(name) as T;
}

/** Bundlers that write CommonJS leave `import.meta.url` undefined. */
export function placeOfModule(module: string | undefined, wanted: string): string {
  if (module === undefined) throw separatedByBundler(wanted);
  return module;
}

export function separatedByBundler(wanted: string): MapramError {
  return new MapramError(
    'UNSUPPORTED',
    `loading ${wanted}: mapram was bundled without the files that it loads at run time; exclude it from the bundle (esbuild: --external:mapram)`,
  );
}
