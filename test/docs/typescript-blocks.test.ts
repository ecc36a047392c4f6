/** The TypeScript blocks of README and docs compile as a user's would, and run: those that need a VM in test/qemu/documents.test.ts. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { type CodeBlock, codeBlocks, linkPackage, needsVm, pages, putFiles } from './documents.js';

const root = temporaryFolder('docs');

const blocks = pages.flatMap((page) => codeBlocks(page, 'ts', 'typescript'));
const fileOf = (block: CodeBlock) => `block-${blocks.indexOf(block)}`;
let compilation: string;

before(() => {
  mkdirSync(path.join(root, 'source'));
  linkPackage(root);
  symlinkSync(path.join(repositoryRoot, 'node_modules', '@types'), path.join(root, 'node_modules', '@types'));
  for (const block of blocks)
    writeFileSync(path.join(root, 'source', `${fileOf(block)}.ts`), `${block.code}\nexport {};\n`);
  const compilerOptions = {
    ...{ module: 'nodenext', target: 'es2023', lib: ['es2023', 'esnext.disposable'], types: ['node'] },
    ...{ strict: true, rootDir: 'source', outDir: 'compiled' },
  };
  writeFileSync(path.join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['source'] }));
  const tsc = path.join(repositoryRoot, 'node_modules', '.bin', 'tsc');
  compilation = spawnSync(tsc, ['-p', root], { encoding: 'utf8' }).stdout;
});

for (const block of blocks) {
  describe(block.where, () => {
    test('compiles', () => {
      const errors = compilation.split('\n').filter((line) => line.includes(`${fileOf(block)}.ts`));
      assert.deepEqual(errors, []);
      assert.ok(existsSync(path.join(root, 'compiled', `${fileOf(block)}.js`)), compilation);
    });

    if (needsVm(block)) return;
    test('runs', () => {
      const folder = path.join(root, `${fileOf(block)}.d`);
      mkdirSync(folder);
      putFiles(folder, block.code);
      const { status, stderr } = spawnSync(
        process.execPath,
        [path.join(root, 'compiled', `${fileOf(block)}.js`)],
        {
          cwd: folder,
          encoding: 'utf8',
          env: { ...process.env, XDG_CACHE_HOME: folder },
        },
      );
      assert.equal(status, 0, stderr);
    });
  });
}
