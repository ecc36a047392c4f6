/** Keeps the rooms of docs/architecture.md apart: imports between the folders of src point downwards only. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { repositoryRoot } from '../support/environment.js';

/**
 * The rooms, top to bottom, a row for each level. A room may import from rooms of lower levels, and from those of its own
 * level that `NEIGHBOURS` names.
 */
const LEVELS: readonly (readonly string[])[] = [
  ['index'],
  ['cli'],
  ['ui'],
  ['snapshot', 'doctor', 'metrics'],
  ['store', 'fuse'],
  ['monitor'],
  ['migration'],
  ['guest', 'manifest', 'analysis', 'launch'],
  ['qmp'],
  ['channels'],
  ['mapped-ram', 'checksums'],
  ['threads'],
  ['io', 'options', 'stream'],
  ['json', 'progress-meter', 'checked-options'],
  ['progress', 'size', 'errors', 'deferred', 'defined', 'package-version', 'platform', 'visible'],
  ['branded', 'units'],
];

/** Rooms of one level that know each other, in this direction. */
const NEIGHBOURS: readonly string[] = [
  'manifest → launch',
  'analysis → manifest',
  'guest → launch',
  'doctor → snapshot',
  'metrics → snapshot',
];

/** Rooms that do no input or output of any kind: bytes in, values out. */
const PURE = ['stream', 'options', 'json'];
/** Modules of Node that do. */
const IO_MODULES = /^node:(?:fs|net|http|https|child_process|worker_threads|dgram|tls)(?:\/|$)/;

interface Import {
  readonly from: string;
  /** A file of src without its extension, or the name of a package. */
  readonly to: string;
  readonly internal: boolean;
  /** What is imported, as written. */
  readonly names: string;
  /** Whether it is the file of a thread or process, or one that is loaded later: both know who starts them. */
  readonly isThread: boolean;
}

const source = path.join(repositoryRoot, 'src');
const files = (readdirSync(source, { recursive: true }) as string[]).filter((name) => name.endsWith('.ts'));
const imports = files.flatMap(importsOf);

function importsOf(file: string): Import[] {
  const text = readFileSync(path.join(source, file), 'utf8').replaceAll(/^\s*(?:\/\/|\*|\/\*).*$/gm, '');
  const pattern =
    /(?:^(?:import|export)\s+([^;']*?)\s*from\s*|^import\s*|\b(import\(|new URL\()\s*)'([^']+)'/gm;
  return [...text.matchAll(pattern)].map(([, names = '', call, to = '']) => {
    const internal = to.startsWith('.');
    const target = internal ? path.join(path.dirname(file), to).replace(/\.js$/, '') : to;
    return { from: file.replace(/\.ts$/, ''), to: target, internal, names, isThread: call !== undefined };
  });
}

function roomOf(file: string): string {
  return file.split('/')[0] as string;
}

function levelOf(room: string): number {
  return LEVELS.findIndex((rooms) => rooms.includes(room));
}

/** A row for each level, with the rooms that have a folder, and what each imports. */
function drawing(): string {
  const folders = new Set(files.filter((file) => file.includes('/')).map(roomOf));
  const below = (room: string) => {
    const rooms = imports
      .filter(({ internal, from }) => internal && roomOf(from) === room)
      .map(({ to }) => roomOf(to))
      .filter((to) => to !== room && folders.has(to));
    return [...new Set(rooms)].sort((a, b) => levelOf(a) - levelOf(b) || a.localeCompare(b));
  };
  const rows = LEVELS.map((rooms) => rooms.filter((room) => folders.has(room))).filter(
    (rooms) => rooms.length > 0,
  );
  const lines = rows.map((rooms) =>
    rooms.map((room) => `  ${room.padEnd(11)} ──► ${below(room).join(', ') || 'nothing'}`).join('\n'),
  );
  return ['```text', lines.join('\n\n'), '```'].join('\n');
}

test('every folder of src is a room with a place', () => {
  const rooms = new Set(files.map((file) => roomOf(file.replace(/\.ts$/, ''))));
  assert.deepEqual(
    [...rooms].filter((room) => levelOf(room) < 0),
    [],
    'give new rooms a level here and a row in docs/architecture.md',
  );
});

test('docs/architecture.md has a row for every folder', () => {
  const page = readFileSync(path.join(repositoryRoot, 'docs', 'architecture.md'), 'utf8');
  const folders = new Set(files.filter((file) => file.includes('/')).map(roomOf));
  assert.deepEqual(
    [...folders].filter((folder) => !page.includes(`\`src/${folder}\``)),
    [],
  );
});

test('docs/architecture.md draws the rooms as the imports are', () => {
  const page = path.join(repositoryRoot, 'docs', 'architecture.md');
  const section = /(<!-- rooms -->\n)([\s\S]*?)(\n?<!-- end of rooms -->)/;
  if (process.env.MAPRAM_UPDATE === '1') {
    const text = readFileSync(page, 'utf8');
    writeFileSync(
      page,
      text.replace(section, (_, begin, __, end) => `${begin}\n${drawing()}\n\n${end.trimStart()}`),
    );
  }
  assert.equal(section.exec(readFileSync(page, 'utf8'))?.[2]?.trim(), drawing());
});

test('docs/architecture.md names files that exist', () => {
  const page = readFileSync(path.join(repositoryRoot, 'docs', 'architecture.md'), 'utf8');
  const named = [...page.matchAll(/\bsrc\/([\w/-]+\.ts)\b/g)].map(([, file = '']) => file);
  assert.ok(named.length > 20, `length: ${named.length}`);
  assert.deepEqual(
    named.filter((file) => !files.includes(file)),
    [],
  );
});

test('imports between rooms point downwards', () => {
  const upwards = imports
    .filter(({ internal }) => internal)
    .map(({ from, to }) => ({ from, to, rooms: [roomOf(from), roomOf(to)] as [string, string] }))
    .filter(({ rooms: [above, below] }) => above !== below && levelOf(above) >= levelOf(below))
    .filter(({ rooms: [above, below] }) => !NEIGHBOURS.includes(`${above} → ${below}`))
    .map(({ from, to }) => `${from} → ${to}`);
  assert.deepEqual([...new Set(upwards)].sort(), []);
});

test('no file imports itself in a circle, types included', () => {
  const targets = new Map<string, string[]>();
  for (const { from, to, internal, isThread } of imports) {
    if (internal && !isThread) targets.set(from, [...(targets.get(from) ?? []), to]);
  }
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, trail: readonly string[]) => {
    const start = trail.indexOf(file);
    if (start >= 0) circles.push([...trail.slice(start), file].join(' → '));
    if (start >= 0 || done.has(file)) return;
    for (const target of targets.get(file) ?? []) visit(target, [...trail, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  assert.deepEqual(circles, []);
});

describe('what a room must not know', () => {
  const foreign = imports.filter(({ internal }) => !internal);

  test('only src/io/native calls functions of the system library', () => {
    const users = foreign.filter(({ to }) => to === 'koffi').map(({ from }) => from);
    assert.ok(
      users.every((file) => file === 'io/native'),
      users.join(', '),
    );
  });

  for (const room of PURE) {
    test(`${room} neither reads nor writes anything`, () => {
      const users = foreign
        .filter(({ from, to }) => roomOf(from) === room && IO_MODULES.test(to))
        // A number of the platform, such as O_DIRECT, is a fact and no access.
        .filter(({ names }) => names !== '{ constants }');
      assert.deepEqual(users, []);
    });
  }

  test('only src/cli knows the command line library and the terminal', () => {
    const users = foreign.filter(
      ({ from, to }) => /^(?:commander|log-update)$/.test(to) && roomOf(from) !== 'cli',
    );
    assert.deepEqual(users, []);
  });

  test('only packages that are dependencies are imported', () => {
    const { dependencies } = JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8'));
    const unknown = foreign.filter(
      ({ to }) => !to.startsWith('node:') && !to.startsWith('mapram/') && !(to in dependencies),
    );
    assert.deepEqual(unknown, []);
  });
});
