import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { connectVm } from '../../../src/guest/qemu/connect-vm.js';
import { hasFeature, QEMU_FAULTS, releaseOf, shownFeatures } from '../../../src/guest/qemu/qemu-features.js';
import { chooseMethod } from '../../../src/migration/save-method.js';
import { monitorInFrontOf } from '../../../src/monitor/open-monitor.js';
import { repositoryRoot } from '../../support/environment.js';
import { failsWith } from '../../support/fails-with.js';
import { FakeQemu, type FakeQemuOptions } from '../../support/fake-qemu.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

test('a release has what came with it or before', () => {
  assert.equal(hasFeature([9, 0], 'directIo'), false);
  assert.equal(hasFeature([9, 1], 'directIo'), true);
  assert.equal(hasFeature([11, 1], 'directIo'), true);
  assert.equal(releaseOf('directIo'), '9.1');
});

test('what a QEMU shows of itself counts, whatever its release', () => {
  const shown = shownFeatures(new Set(['multifd', 'mapped-ram']), new Set(['max-bandwidth']));
  assert.deepEqual(
    [...shown],
    [
      ['mappedRam', true],
      ['directIo', false],
    ],
  );
});

/** Their releases say the opposite of what they show. */
const BACKPORTED = { version: [7, 2], capabilities: ['mapped-ram'], parameters: ['direct-io'] } as const;
const WITHOUT = { version: [10, 0], capabilities: [], parameters: [] } as const;

function startFake(shown: Partial<FakeQemuOptions>, migrate: (uri: string) => void = () => {}) {
  return FakeQemu.start({
    ...shown,
    migrate,
    answer: (execute) => (execute === 'query-qmp-schema' ? [] : undefined),
  });
}

for (const [what, shown, method] of [
  ['an old QEMU into which mapped-ram was brought', BACKPORTED, 'native'],
  ['a new QEMU that was built without mapped-ram', WITHOUT, 'stream'],
] as const) {
  test(`${what} is saved as its capabilities and parameters allow`, async () => {
    await using qemu = await startFake(shown);
    await using vm = await connectVm(qemu.qmpPath, {});
    const has = method === 'native';
    assert.deepEqual([vm.has('mappedRam'), vm.has('directIo'), vm.has('exitOnError')], [has, has, !has]);
    const wishes = { live: true, background: false, directIo: true, runState: 'running' };
    assert.equal((await chooseMethod(vm, { ...wishes, method: 'auto' })).method, method);
    const native = chooseMethod(vm, { ...wishes, method: 'native' });
    if (has) assert.equal((await native).method, 'native');
    else
      await assert.rejects(
        native,
        failsWith('UNSUPPORTED', /this build of QEMU 10\.0\.0 has no direct-io migration \(9\.1 has\)/),
      );
  });

  test(`a monitor in front of ${what} leaves to it what it can do`, async () => {
    const uris: string[] = [];
    await using qemu = await startFake(shown, (uri) => uris.push(uri));
    const folder = temporaryFolder('features');
    try {
      await using monitor = await monitorInFrontOf(qemu.qmpPath);
      const capabilities = [{ capability: 'mapped-ram', state: true }];
      await monitor.execute('migrate-set-capabilities', { capabilities });
      await monitor.execute('migrate', { uri: `file:${path.join(folder, 'vm')}` }).catch(() => {});
      const own = uris.filter((uri) => uri.startsWith('file:'));
      assert.equal(own.length, method === 'native' ? 1 : 0, uris.join(' '));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test('a monitor in front of a QEMU newer than any known leaves the rules between capabilities to it', async () => {
  const capabilities = ['mapped-ram', 'postcopy-ram'].map((capability) => ({ capability, state: true }));
  for (const [version, refuses] of [
    [[11, 1], true],
    [[11, 2], false],
  ] as const) {
    await using qemu = await startFake({ version, capabilities: ['mapped-ram', 'postcopy-ram'] });
    await using monitor = await monitorInFrontOf(qemu.qmpPath);
    const setting = monitor.execute('migrate-set-capabilities', { capabilities });
    if (refuses)
      await assert.rejects(setting, { message: 'Mapped-ram migration is incompatible with postcopy' });
    else await setting;
    assert.equal(qemu.commands.includes('migrate-set-capabilities'), !refuses);
  }
});

test('a monitor in front of a QEMU newer than any known passes on options that it does not know', async () => {
  const unknown = { capability: 'from-the-future', state: true };
  const sets = [
    ['migrate-set-capabilities', { capabilities: [{ capability: 'xbzrle', state: true }, unknown] }],
    ['migrate-set-parameters', { 'multifd-channels': 3, 'x-from-the-future': 1 }],
  ] as const;
  for (const [version, expected] of [
    [[11, 1], 'does not accept value|is unexpected'],
    [[11, 2], undefined],
  ] as const) {
    const seen: object[] = [];
    await using qemu = await FakeQemu.start({
      version,
      capabilities: ['mapped-ram', 'xbzrle', 'from-the-future'],
      parameters: ['multifd-channels'],
      migrate() {},
      answer(execute, args) {
        if (execute.startsWith('migrate-set-')) seen.push(args);
        return execute === 'query-qmp-schema' ? [] : undefined;
      },
    });
    await using monitor = await monitorInFrontOf(qemu.qmpPath);
    for (const [name, args] of sets) {
      const setting = monitor.execute(name, structuredClone(args) as never);
      if (expected === undefined) await setting;
      else await assert.rejects(setting, { message: new RegExp(expected) });
    }
    const passed = [
      { capabilities: [unknown] },
      { capabilities: [{ capability: 'xbzrle', state: true }] },
      { 'x-from-the-future': 1 },
      { 'multifd-channels': 3 },
    ];
    assert.deepEqual(seen, expected === undefined ? passed : []);
  }
});

test('docs/compared-with-qemu.md lists the faults of the table', () => {
  const file = path.join(repositoryRoot, 'docs', 'compared-with-qemu.md');
  const rows = Object.values(QEMU_FAULTS).map(({ upTo, known, summary, workaround }) => {
    const version = known === 'seen' ? `${upTo}, seen` : `up to ${upTo}, from source`;
    return `| ${summary} | ${version} | ${workaround} |`;
  });
  const table = ['| fault | QEMU | mapram |', '|---|---|---|', ...rows].join('\n');
  const section = /(<!-- faults -->\n)([\s\S]*?)(\n?<!-- end of faults -->)/;
  const page = readFileSync(file, 'utf8');
  if (process.env.MAPRAM_UPDATE === '1') {
    writeFileSync(
      file,
      page.replace(section, (_, begin, __, end) => `${begin}\n${table}\n\n${end.trimStart()}`),
    );
  }
  assert.equal(section.exec(readFileSync(file, 'utf8'))?.[2]?.trim(), table);
});
