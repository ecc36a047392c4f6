/** One script, run against a real QEMU 10.0 and against the builtin guest: both must say the same. */

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../../src/json/json-value.js';
import { RawClient } from '../monitor/raw-client.js';
import { replay } from '../monitor/replay.js';
import type { TranscriptLine } from '../monitor/transcript.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** A command, a status of the migration or of the VM to wait for, or either at the VM that loads. */
type Step =
  | readonly [command: string, args?: object]
  | { readonly until: string; readonly of?: 'query-status' }
  | { readonly there: Step };

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

const there = (step: Step): Step => ({ there: step });
const RUNNING: Step = { until: 'running', of: 'query-status' };

const STREAM_BY_FILE: readonly Step[] = [
  capabilities({ events: true }),
  ['migrate-set-parameters', { 'max-bandwidth': 0 }],
  ['migrate', { uri: 'file:plain.mig' }],
  { until: 'completed' },
  human('info migrate'),
  POSTMIGRATE,
  ['migrate', { uri: 'fd:nope' }],
  ['migrate', { uri: 'unix:missing.sock' }],
  there(['query-status']),
  there(capabilities({ events: true })),
  there(['migrate', { uri: 'file:plain.mig' }]),
  there(['migrate-incoming', { uri: 'file:plain.mig' }]),
  there({ until: 'completed' }),
  there(RUNNING),
  there(human('info migrate')),
  there(['migrate-incoming', { uri: 'file:plain.mig' }]),
  there(['quit']),
  ['cont'],
  ['migrate', { uri: 'unix:missing.sock' }],
  { until: 'failed' },
  ['query-status'],
  ['migrate', { uri: 'exec:cat > behind.mig' }],
  { until: 'completed' },
  POSTMIGRATE,
  ['quit'],
];

/** @param options what both sides set */
const streamBySocket = (options: readonly Step[]): readonly Step[] => [
  ...options.map(there),
  there(['migrate-incoming', { uri: 'unix:stream.sock' }]),
  there(['migrate-incoming', { uri: 'unix:stream.sock' }]),
  ...options,
  ['migrate', { uri: 'unix:stream.sock' }],
  { until: 'completed' },
  there({ until: 'completed' }),
  there(RUNNING),
  there(['query-migrate']),
  human('info migrate'),
  POSTMIGRATE,
  there(['quit']),
  ['quit'],
];

/** A VM that is spoken to, and all that it says. */
class Recorded {
  private constructor(
    readonly name: string,
    readonly client: RawClient,
    readonly lines: TranscriptLine[],
  ) {}

  static async connect(name: string, path: string, lines: TranscriptLine[]): Promise<Recorded> {
    const recorded = new Recorded(name, await RawClient.connect(path), lines);
    recorded.receive(await recorded.client.reply());
    await recorded.take(['qmp_capabilities']);
    return recorded;
  }

  async take(step: Exclude<Step, { there: Step }>): Promise<void> {
    if (!('until' in step)) {
      this.note(await this.send(...step));
      return;
    }
    for (;;) {
      const asked = await this.send(step.of ?? 'query-migrate');
      const { status } = (asked.reply as { return: JsonObject }).return;
      if (status === step.until) {
        this.note(asked);
        return;
      }
      await sleep(20);
    }
  }

  async takeEvents(): Promise<void> {
    for (let event = await this.client.event(); event; event = await this.client.event()) this.receive(event);
  }

  private async send(
    command: string,
    args?: object,
  ): Promise<{ text: string; reply: JsonObject | undefined }> {
    const text = `${JSON.stringify({ execute: command, arguments: args })}\n`;
    this.client.send(text);
    return { text, reply: await this.client.reply() };
  }

  private note({ text, reply }: { text: string; reply: JsonObject | undefined }): void {
    this.lines.push({ kind: 'send', vm: this.name, text });
    this.receive(reply);
  }

  private receive(message: JsonObject | undefined): void {
    assert.ok(message, 'there is no message');
    this.lines.push({ kind: 'receive', vm: this.name, message });
  }
}

async function record(t: TestContext, steps: readonly Step[]): Promise<TranscriptLine[]> {
  const lines: TranscriptLine[] = [{ kind: 'start', vm: 'here', args: [] }];
  await using vm = await startVm({ guest: 'none', extraArgs: ['-no-shutdown'] });
  const here = await Recorded.connect('here', vm.qmpPath, lines);
  t.after(() => here.client.destroy());
  const loads = steps.some((step) => 'there' in step);
  await using other = loads
    ? await startVm({ guest: 'none', incoming: true, extraArgs: ['-no-shutdown'] })
    : undefined;
  if (loads) lines.push({ kind: 'start', vm: 'there', args: ['-incoming', 'defer'] });
  const loading = other && (await Recorded.connect('there', other.qmpPath, lines));
  t.after(() => loading?.client.destroy());
  for (const step of steps) {
    if ('there' in step) await loading?.take(step.there as Exclude<Step, { there: Step }>);
    else await here.take(step);
  }
  await loading?.takeEvents();
  await here.takeEvents();
  return lines;
}

for (const [name, steps] of Object.entries({
  'save, and save again': SAVE_AND_SAVE_AGAIN,
  'pause before the switchover': PAUSE_AND_CANCEL,
  'a plain stream into a file, and back': STREAM_BY_FILE,
  'a plain stream over a socket': streamBySocket([capabilities({ events: true })]),
  'multifd over a socket': streamBySocket([
    capabilities({ events: true, multifd: true }),
    ['migrate-set-parameters', { 'multifd-channels': 3, 'max-bandwidth': 0 }],
  ]),
})) {
  test(`${name}: QEMU 10.0 and the builtin guest say the same`, needs({ qemu: '10.0' }), async (t) => {
    const folder = temporaryFolder('test');
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
