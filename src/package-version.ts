import { createRequire } from 'node:module';

/** Of the mapram that runs. */
export function packageVersion(): string {
  return (createRequire(import.meta.url)('mapram/package.json') as { version: string }).version;
}
