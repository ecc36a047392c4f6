/** One script, run against a real QEMU 10.0 and against the builtin guest: both must say the same. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../../src/options/qapi.js';
import { RawClient } from '../monitor/raw-client.js';
import { replay } from '../monitor/replay.js';
import type { TranscriptLine } from '../monitor/transcript.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';

/** A command, or a status of the migration or of the VM to wait for. */
type Step =
  | readonly [command: string, args?: object]
  | { readonly until: string; readonly of?: 'query-status' };

/** QEMU calls a migration completed a moment before the VM has its last state. */
const POSTMIGRATE: Step = { until: 'postmigrate', of: 'query-status' };

const capabilities = (states: Record<string, boolean>): Step => [
  'migrate-set-capabilities',
  { capabilities: Object.entries(states).map(([capability, state]) => ({ capability, state })) },
];
const human = (line: string): Step => ['human-monitor-command', { 'command-line': line }];

const SAVE_AND_SAVE_AGAIN: readonly Step[] = [
  ['query-status'],
  ['query-migrate'],
  capabilities({ events: true, 'mapped-ram': true, multifd: true }),
  human('migrate_set_parameter direct-io on'),
  ['migrate-set-parameters', { 'multifd-channels': 3, 'max-bandwidth': 0 }],
  ['migrate', { uri: 'file:one.mig' }],
  { until: 'completed' },
  human('info migrate'),
  POSTMIGRATE,
  ['migrate', { uri: 'file:two.mig' }],
  ['migrate-continue', { state: 'pre-switchover' }],
  ['migrate_cancel'],
  ['cont'],
  ['query-status'],
  ['migrate', { uri: 'file:missing/two.mig' }],
  ['query-migrate'],
  human('info migrate'),
  ['migrate', { uri: 'file:two.mig,offset=0x1000' }],
  { until: 'completed' },
  ['quit'],
];

const PAUSE_AND_CANCEL: readonly Step[] = [
  capabilities({ events: true, 'mapped-ram': true, multifd: true, 'pause-before-switchover': true }),
  ['migrate-set-parameters', { 'max-bandwidth': 0 }],
  ['migrate', { uri: 'file:one.mig' }],
  { until: 'pre-switchover' },
  ['query-status'],
  capabilities({ events: false }),
  ['migrate-set-parameters', { 'direct-io': true }],
  ['migrate', { uri: 'file:two.mig' }],
  ['migrate-continue', { state: 'device' }],
  ['migrate-continue', { state: 'pre-switchover' }],
  { until: 'completed' },
  POSTMIGRATE,
  ['cont'],
  ['stop'],
  ['query-status'],
  ['migrate', { uri: 'file:one.mig' }],
  { until: 'pre-switchover' },
  ['migrate-continue', { state: 'pre-switchover' }],
  { until: 'completed' },
  POSTMIGRATE,
  ['quit'],
];

async function record(t: TestContext, steps: readonly Step[]): Promise<TranscriptLine[]> {
  await using vm = await startVm({ guest: 'none', extraArgs: ['-no-shutdown'] });
  const client = await RawClient.connect(vm.qmpPath);
  t.after(() => client.destroy());
  const lines: TranscriptLine[] = [{ kind: 'start', vm: 'vm', args: [] }];
  const receive = (message: JsonObject | undefined) => {
    assert.ok(message);
    lines.push({ kind: 'receive', vm: 'vm', message });
  };
  const send = async (command: string, args?: object) => {
    const text = `${JSON.stringify({ execute: command, arguments: args })}\n`;
    client.send(text);
    return { text, reply: await client.reply() };
  };
  receive(await client.reply());
  for (const step of [['qmp_capabilities'] as const, ...steps]) {
    if (!('until' in step)) {
      const { text, reply } = await send(...step);
      lines.push({ kind: 'send', vm: 'vm', text });
      receive(reply);
      continue;
    }
    for (;;) {
      const { text, reply } = await send(step.of ?? 'query-migrate');
      const { status } = (reply as { return: JsonObject }).return;
      if (status !== step.until) {
        await sleep(20);
        continue;
      }
      lines.push({ kind: 'send', vm: 'vm', text });
      receive(reply);
      break;
    }
  }
  for (let event = await client.event(); event; event = await client.event()) receive(event);
  return lines;
}

for (const [name, steps] of Object.entries({
  'save, and save again': SAVE_AND_SAVE_AGAIN,
  'pause before the switchover': PAUSE_AND_CANCEL,
})) {
  test(`${name}: QEMU 10.0 and the builtin guest say the same`, needs({ qemu: '10.0' }), async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'mapram-test-'));
    const home = process.cwd();
    process.chdir(folder);
    t.after(() => {
      process.chdir(home);
      rmSync(folder, { recursive: true, force: true });
    });
    const transcript = await record(t, steps);
    const { lines, equal, differences } = await replay(transcript, {
      profile: '10.0',
      socket: join(folder, 'qmp.sock'),
    });
    t.diagnostic(`${equal} of ${lines} lines equal`);
    assert.deepEqual(differences, []);
  });
}
