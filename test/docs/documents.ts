/** README and docs as tests see them: the code in them, and the files that they speak of. */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { goldenBytes } from '../golden/golden-file.js';
import { repositoryRoot } from '../support/environment.js';

export interface CodeBlock {
  /** `docs/page.md:12` */
  readonly where: string;
  readonly code: string;
}

/** Pages written by hand, as paths in the repository. */
export const pages = [
  'README.md',
  ...readdirSync(path.join(repositoryRoot, 'docs')).map((name) => `docs/${name}`),
].filter((name) => name.endsWith('.md'));

export function readPage(page: string): string {
  return readFileSync(path.join(repositoryRoot, page), 'utf8');
}

/** The blocks of a page that are marked with one of these languages. */
export function codeBlocks(page: string, ...languages: string[]): CodeBlock[] {
  const text = readPage(page);
  const pattern = new RegExp(`^\`\`\`(?:${languages.join('|')})\\n(.*?)^\`\`\`$`, 'gms');
  return [...text.matchAll(pattern)].map(({ index, 1: code = '' }) => ({
    where: `${page}:${text.slice(0, index).split('\n').length}`,
    code,
  }));
}

/** Files that the documents speak of, and the golden file that each stands for. */
const FILES: Readonly<Record<string, string>> = {
  'vm.img': 'pc-10.0-mapped-ram',
  'vm.mapram': 'pc-10.0-mapped-ram',
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

/** Makes `import … from 'mapram'` mean this repository for scripts in `folder`. */
export function linkPackage(folder: string): void {
  const installed = path.join(folder, 'node_modules', 'mapram');
  mkdirSync(installed, { recursive: true });
  symlinkSync(path.join(repositoryRoot, 'build', 'src'), path.join(installed, 'lib'));
  const entry = { types: './lib/index.d.ts', default: './lib/index.js' };
  writeFileSync(
    path.join(installed, 'package.json'),
    JSON.stringify({ name: 'mapram', type: 'module', exports: { '.': entry } }),
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
