/** README and docs are short, plain English, their links lead somewhere, and every error code is explained. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { repositoryRoot } from '../support/environment.js';
import { codeBlocks, pages, readPage } from './documents.js';

/** What is not English, and what to write instead. */
const BANNED: readonly (readonly [RegExp, string])[] = [
  [/\b(?:somebody|nobody|whoever|everybody)\b/gi, 'anyone, no one, or the process or user by name'],
  [/\btells\b/gi, 'reports, detects, shows'],
  [/\b(?:go|goes|going|gone|went) on\b/gi, 'continue, keep running'],
  [/\b(?:held|hold|holds|holding)(?: \w+){0,3} against\b/gi, 'compare with'],
  [/\b(?:leave|leaves|leaving|left)(?: \S+){0,3} away\b/gi, 'omit'],
  [/\btakes? O_DIRECT\b/gi, 'supports O_DIRECT'],
  [/\b(?:stand|stands|standing|stood) still\b/gi, 'paused, downtime'],
  [/\bin people's words\b/gi, 'in a sentence'],
  [/\b(?:give|given|gave|line|it|one)(?: \S+){0,4} behind `/gi, 'after `--`'],
  [/\bone behind the other\b/gi, 'one after the other'],
  [/\bbehind the (?:end|header|last|last page|stream)\b/gi, 'after'],
  [/\b(?:started|made|written|write it) anew\b/gi, 'again'],
  [/\bof which QEMU dies\b/gi, 'which crashes QEMU'],
  [/\bwithout a word\b/gi, 'without an error, silently'],
  [/\bhas to have\b/gi, 'needs, must have'],
  [/\bin vain\b/gi, 'without success'],
];

/** A page without its code blocks, as many lines long as before. */
function prose(page: string): string {
  return readPage(page).replaceAll(/^```[\s\S]*?^```$/gm, (block) => block.replaceAll(/[^\n]/g, ''));
}

/** Without docs/api, which comes from docstrings. */
const tested = [...pages, 'CONTRIBUTING.md'];

for (const page of tested) {
  test(`${page} is plain English`, () => {
    const text = prose(page);
    const found = BANNED.flatMap(([phrase, better]) =>
      // Phrases may be broken by the end of a line.
      [...text.matchAll(new RegExp(phrase.source.replaceAll(' ', '\\s+'), phrase.flags))].map(
        ({ 0: words, index }) =>
          `${page}:${text.slice(0, index).split('\n').length}: "${words.replaceAll(/\s+/g, ' ')}"; write: ${better}`,
      ),
    );
    assert.deepEqual(found, []);
  });
}

test('the banned phrases are found across lines, and not in code', () => {
  const [, , goOn] = BANNED;
  assert.ok(goOn, 'there is no go on');
  assert.match('the guest goes on', goOn[0]);
  assert.doesNotMatch('the guest has gone', goOn[0]);
});

/** The anchor that GitHub gives a heading. */
const anchorOf = (heading: string): string =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');

test('relative links lead to a file, and to a heading in it', () => {
  const broken = tested.flatMap((page) =>
    [...prose(page).matchAll(/\]\(([^)#\s]*)(?:#([^)\s]+))?\)/g)]
      .filter(([, target = '']) => !/^[a-z]+:/.test(target))
      .filter(([, target = '', anchor]) => {
        const file = target === '' ? page : path.join(path.dirname(page), target);
        if (!existsSync(path.join(repositoryRoot, file))) return true;
        if (anchor === undefined || !file.endsWith('.md')) return false;
        const headings = [...prose(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
          anchorOf(heading),
        );
        return !headings.includes(anchor);
      })
      .map(([link]) => `${page}: ${link}`),
  );
  assert.deepEqual(broken, []);
});

test('README has at most 160 lines, says what mapram is in its first line, and how to install it', () => {
  const lines = readPage('README.md').trimEnd().split('\n');
  assert.ok(lines.length <= 160, `it has ${lines.length}`);
  assert.match(lines[2] ?? '', /^mapram .*\.$/);
  assert.ok(
    lines.some((line) => line.includes('`npm install mapram`')),
    'README does not say how to install it',
  );
  const commands = codeBlocks('README.md', 'sh').flatMap(({ code }) => code.split('\n'));
  for (const command of ['npm ci && npm run demo', 'npm ci && npm test'])
    assert.ok(commands.includes(command), `no line "${command}"`);
});

test('docs/troubleshooting.md and docs/library.md explain every error code', () => {
  const source = readFileSync(path.join(repositoryRoot, 'src', 'errors.ts'), 'utf8');
  const type = /type MapramErrorCode =([\s\S]*?);/.exec(source)?.[1] ?? '';
  const codes = [...type.matchAll(/\| '(\w+)'/g)].map(([, code = '']) => code);
  assert.ok(codes.length > 10, 'the codes of src/errors.ts are not found');
  const page = readPage('docs/troubleshooting.md');
  const sections = new Map(
    page
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf('\n')), section]),
  );
  assert.deepEqual([...sections.keys()], codes);
  for (const [code, section] of sections) {
    assert.match(section, /^\*\*Cause:\*\* \S/m, code);
    assert.match(section, /^\*\*What to do:\*\* \S/m, code);
  }
  const library = readPage('docs/library.md');
  for (const code of codes)
    assert.ok(library.includes(`\`${code}\``), `docs/library.md does not list ${code}`);
  for (const linking of ['README.md', 'docs/library.md'])
    assert.match(readPage(linking), /troubleshooting\.md/, linking);
});
