import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { jsonName } from '../../src/cli/command.js';
import { describedCommands, jsonSchema } from '../../src/cli/commands/schema.js';
import { allCommands } from '../../src/cli/registry.js';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { type CliRun, type RunOptions, runCli } from './run-cli.js';

const root = temporaryFolder('schema');
const file = path.join(root, 'vm.mapram');
const second = path.join(root, 'second.mapram');
const guest = 'builtin:size=16M';

/** Whether each line fits the published schema of its command. */
async function validatorOf(name: string) {
  return new Ajv2020({ strict: true, allErrors: true, allowUnionTypes: true }).compile(jsonSchema(name));
}

async function assertFits(
  args: readonly string[],
  expectedCode = 0,
  options: RunOptions = {},
): Promise<CliRun> {
  const run = await runCli([...args, '--json'], { ...options, env: { PATH: root, XDG_CACHE_HOME: root } });
  assert.equal(run.code, expectedCode, run.stderr);
  const name = args[0] === 'store' ? `store-${args[1]}` : args[0];
  const validate = await validatorOf(name as string);
  for (const line of run.lines)
    assert.ok(validate(line), `${JSON.stringify(line).slice(0, 2000)}\n${JSON.stringify(validate.errors)}`);
  assert.equal(run.result.result, name);
  return run;
}

/** Tells a command to end with the first that it writes. */
function untilReady(): RunOptions {
  let told = false;
  return {
    onStdout(child) {
      if (!told) child.kill('SIGTERM');
      told = true;
    },
  };
}

test('the schemas are what the types of results say', () => {
  const folder = path.join(root, 'schemas');
  const script = path.join(repositoryRoot, 'scripts', 'result-schemas.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script, folder], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const filesIn = (place: string) =>
    Object.fromEntries(
      readdirSync(place).map((name) => [name, readFileSync(path.join(place, name), 'utf8')]),
    );
  assert.deepEqual(filesIn(path.join(repositoryRoot, 'schemas')), filesIn(folder), 'run `npm run schemas`');
});

test('every command has a schema', async () => {
  const names = (await allCommands()).map(({ name }) => jsonName(name));
  assert.deepEqual(names.sort(), describedCommands().sort());
});

test('real output fits: save, restore, inspect, verify, diff, convert', async () => {
  const saved = await assertFits(['save', guest, file]);
  assert.ok(
    saved.lines.some((line) => line.progress === 'save'),
    'no progress was reported',
  );
  await assertFits(['save', guest, second, '--live', '--no-checksums', '--direct-io', 'off']);
  await assertFits(['restore', file, guest]);
  await assertFits(['inspect', file, '--devices', '--map']);
  await assertFits(['verify', file]);
  await assertFits(['verify', second]);
  const { result } = await assertFits(['diff', file, second]);
  assert.ok((result.devices as unknown[]).length > 0, 'the guest has gone on');
  await assertFits(['diff', file, second, '--html', path.join(root, 'diff.html')]);
  await assertFits(['inspect', file, '--html', path.join(root, 'inspect.html')]);
  await assertFits(['convert', file, path.join(root, 'raw'), '--to', 'raw']);
});

test('real output fits: all of store', async () => {
  const place = `dir:${path.join(root, 'store')}`;
  await assertFits(['store', 'init', place]);
  await assertFits(['save', guest, file, '--force']);
  const { result } = await assertFits(['store', 'push', file, `${place}/vm`, '--disk', second]);
  await assertFits(['store', 'list', place]);
  await assertFits(['store', 'verify', `${place}/vm`, '--sample', '50%']);
  await assertFits([
    'store',
    'pull',
    `${place}/vm`,
    path.join(root, 'pulled'),
    '--disks',
    path.join(root, 'disks'),
  ]);
  await assertFits(['inspect', `${place}/vm`]);
  await assertFits(['save', guest, `${place}/vm`]);
  await assertFits(['store', 'remove', String(result.address)]);
  await assertFits(['store', 'prune', place, '--keep-last', '2']);
  await assertFits(['store', 'pull', `${place}/other`, path.join(root, 'gone')], 1);
  await assertFits(['store', 'remove', `${place}/vm`], 2);
});

test('real output fits: demo, and what serves until it is told to end', async () => {
  await assertFits(['demo', root]);
  const { lines } = await assertFits(['ui', root, '--no-find-running', '--no-speed-trial'], 0, untilReady());
  assert.match(String(lines[0]?.url), /^http:\/\/127\.0\.0\.1:/);
  const serving = ['--qmp', path.join(root, 'qmp'), '--metrics', 'tcp:127.0.0.1:0'];
  const { lines: monitored } = await assertFits(['monitor', guest, ...serving], 0, untilReady());
  assert.equal(monitored[0]?.ready, 'monitor');
  assert.match(String(monitored[0]?.metrics), /^http:\/\/127\.0\.0\.1:/);
});

test('real output fits: trust, doctor, completion, schema', async () => {
  await assertFits(['trust', '--list']);
  await assertFits(['doctor', root]);
  await assertFits(['completion', 'fish']);
  const { result } = await assertFits(['schema', 'save']);
  assert.deepEqual(result.schema, JSON.parse(JSON.stringify(jsonSchema('save'))));
});

test('failures fit, and what is not published does not', async () => {
  await assertFits(['inspect', path.join(root, 'absent')], 1);
  await assertFits(['monitor', guest], 2);
  const validate = await validatorOf('save');
  assert.equal(validate({ result: 'save', file: 'vm.mapram' }), false);
  assert.equal(validate({ result: 'inspect' }), false);
  assert.equal(validate({ warning: 'save', message: 'x', more: 1 }), false);
});
