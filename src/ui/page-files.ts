/** The files of the page, as they are in the package. Nothing else is ever read for a browser. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};

const NAMES = new Set([
  'index.html',
  'style.css',
  'details.css',
  'icon.svg',
  'main.js',
  'address.js',
  'dialog.js',
  'directories.js',
  'elements.js',
  'file-details.js',
  'forms.js',
  'launch-forms.js',
  'listing.js',
  'memory-map.js',
  'menu.js',
  'messages.js',
  'monitor.js',
  'operations.js',
  'option-words.js',
  'overview.js',
  'rate-chart.js',
  'results.js',
  'save-form.js',
  'saved.js',
  'saved-forms.js',
  'text.js',
  'vms.js',
]);

/** Browsers run these files as they are: they lie in the package as sources. */
export const PAGE_FOLDER = path.join(
  path.dirname(createRequire(import.meta.url).resolve('mapram/package.json')),
  'src',
  'ui',
  'page',
);

export interface PageFile {
  readonly type: string;
  readonly body: Buffer;
}

/** @param name empty for the page itself; undefined is returned for names that are no file of the page */
export async function readPageFile(name: string): Promise<PageFile | undefined> {
  const file = name === '' ? 'index.html' : name;
  const type = TYPES[path.extname(file).slice(1)];
  if (!NAMES.has(file) || type === undefined) return undefined;
  return { type, body: await readFile(path.join(PAGE_FOLDER, file)) };
}
