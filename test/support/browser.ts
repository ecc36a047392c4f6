import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Browser, chromium } from 'playwright-core';

const program = (process.env.PATH ?? '')
  .split(':')
  .map((folder) => path.join(folder || '.', 'chromium'))
  .find((file) => existsSync(file));

/** Options for a test or suite that needs a browser: skipped with a reason where there is none. */
export const needsBrowser: { skip: string | false } = {
  skip: program === undefined ? 'chromium is not installed: run `npm run test:setup`' : false,
};

export function startBrowser(): Promise<Browser> {
  // Containers have no sandbox to offer; the pages are this project's own.
  return chromium.launch({ ...(program && { executablePath: program }), args: ['--no-sandbox'] });
}
