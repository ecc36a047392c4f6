/** README and docs as tests see them: the code in them, and the files that they speak of. */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { goldenBytes } from '../golden/golden-file.js';
import { repositoryRoot } from '../support/environment.js';

export interface CodeBlock {
  /** `docs/page.md:12` */
  readonly where: string;
  readonly language: string;
  readonly code: string;
}

/** Pages written by hand, as paths in the repository. */
export const pages = [
  'README.md',
  'examples/README.md',
  ...readdirSync(path.join(repositoryRoot, 'docs')).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'));

export function readPage(page: string): string {
  return readFileSync(path.join(repositoryRoot, page), 'utf8');
}

/** What scripts can import: the specifier, and the compiled module in `build`. */
export function exportedPaths(): { specifier: string; source: string }[] {
  const { exports } = JSON.parse(readPage('package.json')) as { exports: Record<string, unknown> };
  return Object.entries(exports).flatMap(([specifier, target]) =>
    typeof target === 'object' && target !== null && 'default' in target
      ? [
          {
            specifier: path.join('mapram', specifier),
            source: String(target.default).replace('./dist/', 'src/'),
          },
        ]
      : [],
  );
}

/** The blocks of a page, of all languages or those that are given. */
export function codeBlocks(page: string, ...languages: string[]): CodeBlock[] {
  const text = readPage(page);
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)]
    .filter(([, language = '']) => languages.length === 0 || languages.includes(language))
    .map(({ index, 1: language = '', 2: code = '' }) => ({
      where: `${page}:${text.slice(0, index).split('\n').length}`,
      language,
      code,
    }));
}

/**
 * Whether a block wants more than this repository's own command: a VM, or programs that are set up for the tests in `test/qemu`.
 * Those are carried out by test/qemu/documents.test.ts, all others by the tests beside this file.
 */
export function needsVm({ code }: CodeBlock): boolean {
  return /(?<!\w)\/(?:run|srv|dev)\/|\/var\/lib\/vm\b|'tcp:|\b(?:resume|fork|ClonePool)\b|^(?:qemu-system-\w+|gdb) /m.test(
    code,
  );
}

/** What a newcomer types to install and try it: test/docs/readme.test.ts. */
export const isFirstTry = ({ code }: CodeBlock): boolean => /^npm ci && npm run demo$/m.test(code);

export interface Session {
  readonly where: string;
  readonly command: string;
  /** What stood on the terminal afterwards. */
  readonly shown: string;
}

/** The `console` blocks of a page: a command behind `$ `, and what it printed. */
export function sessions(page: string): Session[] {
  return codeBlocks(page, 'console').map(({ where, code }) => {
    const [first = '', ...lines] = code.split('\n');
    if (!first.startsWith('$ ')) throw new Error(`${where}: no command`);
    return { where, command: first.slice(2), shown: lines.join('\n') };
  });
}

/**
 * Output as it is shown in a document, to be found in what was really printed: numbers, units, paths below /tmp, dates and identifiers may be
 * others, and `…` on a line of its own stands for any lines.
 */
export function shapeOf(shown: string): RegExp {
  const literal = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll(/ {2,}/g, ' +');
  const changing =
    /\/tmp\/\S+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b\d{4}-\d\d-\d\dT[\d:.]+Z|0x[0-9a-f]+|\d+(?:\.\d+)*(?: (?:[KMGT]i)?B\b| m?s\b)?/g;
  const line = (text: string): string => {
    let pattern = '';
    let end = 0;
    for (const { 0: found, index } of text.matchAll(changing)) {
      pattern += literal(text.slice(end, index)) + patternFor(found);
      end = index + found.length;
    }
    return `${pattern}${literal(text.slice(end))} *\\n`;
  };
  const lines = shown.trimEnd().split('\n');
  return new RegExp(`^${lines.map((text) => (text === '…' ? '(?:.*\\n)*?' : line(text))).join('')}`, 'm');
}

function patternFor(found: string): string {
  if (found.startsWith('/')) return '\\/\\S+';
  if (found.startsWith('0x')) return '0x[0-9a-f]+';
  if (/[T-]/.test(found)) return '[\\w:.-]+';
  if (/B$/.test(found)) return '\\d+(?:\\.\\d+)? (?:[KMGT]i)?B';
  if (/s$/.test(found)) return '\\d+(?:\\.\\d+)? m?s';
  return '\\d+(?:\\.\\d+)*';
}

/** Files that the documents speak of, and the golden file that each stands for. */
const FILES: Readonly<Record<string, string>> = {
  'vm.img': 'pc-10.0-mapped-ram',
  'monday.img': 'pc-10.0-mapped-ram',
  'before.img': 'pc-10.0-mapped-ram',
  'tuesday.img': 'pc-10.0-mapped-ram-live',
  'after.img': 'pc-10.0-mapped-ram-live',
  'old.stream': 'pc-10.0-stream',
  'after.stream': 'pc-10.0-stream',
  'web.save': 'libvirt-11.3-sparse',
};

/** Puts the files into `folder` that `code` speaks of and does not make itself. */
export function putFiles(folder: string, code: string): void {
  for (const [name, golden] of Object.entries(FILES)) {
    const made = new RegExp(`(?:> *|\\bsave\\(\\{[^}]*file: ')${name.replace('.', '\\.')}`).test(code);
    if (code.includes(name) && !made) writeFileSync(path.join(folder, name), goldenBytes(golden));
  }
}

/** Makes `import … from 'mapram'` and `'mapram/…'` mean this repository for scripts in `folder`. */
export function linkPackage(folder: string): void {
  const installed = path.join(folder, 'node_modules', 'mapram');
  mkdirSync(installed, { recursive: true });
  symlinkSync(path.join(repositoryRoot, 'build', 'src'), path.join(installed, 'lib'));
  const { exports } = JSON.parse(readPage('package.json').replaceAll('./dist/', './lib/'));
  writeFileSync(
    path.join(installed, 'package.json'),
    JSON.stringify({ name: 'mapram', type: 'module', exports }),
  );
  writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
}

/** Puts the compiled examples into `folder`, where they find the package as a user's scripts do. */
export function putExamples(folder: string): void {
  linkPackage(folder);
  cpSync(path.join(repositoryRoot, 'build', 'examples'), folder, { recursive: true });
}

/** A folder for PATH with a `mapram` of this repository in it. `script` is run with the command's arguments. */
export function putProgram(folder: string, script: string): void {
  mkdirSync(folder);
  const program = path.join(folder, 'mapram');
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${script}' "$@"\n`, { mode: 0o755 });
}
