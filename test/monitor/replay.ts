/** Replays recorded conversations with real QEMUs against a monitor and counts which lines come out equal. */

import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { sendDescriptors } from '../../src/io/socket/unix-socket.js';
import { JsonDouble, type JsonObject, type JsonValue } from '../../src/json/json-value.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { isMigrationRunning, type MigrationStatus } from '../../src/options/migration-status.js';
import { isJsonObject } from '../../src/options/qapi.js';
import { type ProfileName, qemuProfile } from '../../src/options/qemu-profile.js';
import { patience } from '../support/deadline.js';
import { RawClient } from './raw-client.js';
import type { TranscriptLine } from './transcript.js';

export interface Difference {
  /** The last note before. */
  readonly note: string;
  readonly sent: string;
  readonly expected: string;
  readonly actual: string;
}

export interface ReplayResult {
  readonly lines: number;
  readonly equal: number;
  readonly differences: readonly Difference[];
}

export interface ReplayOptions {
  readonly profile: ProfileName;
  /** Where the sockets and files of the replay lie: the working directory of the process. */
  readonly socket: string;
  /** Flags of the descriptors that were given on the command line, by the note before. */
  readonly descriptors?: Readonly<Record<string, readonly number[]>>;
  /** Makes the files that are there before the first VM is started. */
  readonly prepare?: () => Promise<void> | void;
}

const TERMINAL = new Set(['completed', 'failed', 'cancelled', 'pre-switchover']);
/** How long an event may be late that belongs to what has ended. */
const LATE_MS = 1000;

interface Vm {
  readonly monitor: Monitor;
  readonly client: RawClient;
  /** An event that is waited for. */
  event?: Promise<JsonObject | undefined> | undefined;
}

/** Timings, counters, version texts and whatever is only the state at one moment are put aside. */
export async function replay(
  transcript: readonly TranscriptLine[],
  options: ReplayOptions,
): Promise<ReplayResult> {
  const vms = new Map<string, Vm>();
  const differences: Difference[] = [];
  const early = new Set<TranscriptLine>();
  const loading = new Set<string>();
  let lines = 0;
  let note = '';
  let sent = '';
  await options.prepare?.();
  const compare = (expected: JsonValue, actual: JsonValue | undefined) => {
    lines++;
    if (isDeepStrictEqual(expected, actual)) return;
    differences.push({ note, sent, expected: show(expected), actual: show(actual ?? 'nothing') });
  };
  try {
    for (const [index, line] of transcript.entries()) {
      if (line.kind === 'note') note = line.text;
      if (line.kind === 'start') {
        await close(vms.get(line.vm));
        const flags = options.descriptors?.[note] ?? [];
        vms.set(
          line.vm,
          await start(line.args, flags, { ...options, socket: `${options.socket}.${line.vm}` }),
        );
      }
      const vm = 'vm' in line ? vms.get(line.vm) : undefined;
      if (vm === undefined) continue;
      if (line.kind === 'send') {
        sent = line.text.trim();
        if (sent.includes('"migrate-incoming"')) loading.add(line.vm);
        if (!early.delete(line)) vm.client.send(line.text);
        // Whether a migration is still under way is a race, but not for a request that is there already.
        for (const next of sentMeanwhile(transcript, index)) {
          if (early.has(next)) continue;
          vm.client.send(next.text);
          early.add(next);
        }
      }
      if (line.kind === 'receive') {
        const { message } = line;
        if (isTerminal(message)) loading.delete(line.vm);
        // QEMU before 8.2 tells nothing of a load that has not begun.
        const tellsNothing = loading.has(line.vm) && isDeepStrictEqual(message, { return: {} });
        if (isAside(message) || (tellsNothing && sent.includes('"query-migrate"'))) {
          if (message.event === undefined) await vm.client.reply();
          continue;
        }
        const actual = await (message.event === undefined
          ? nextReply(vm.client, message, sent)
          : nextEvent(vm));
        compare(normalize(message), actual && normalize(actual));
      }
    }
  } finally {
    for (const vm of vms.values()) await close(vm);
  }
  return { lines, equal: lines - differences.length, differences };
}

async function start(
  args: readonly string[],
  flags: readonly number[],
  { profile: name, socket }: ReplayOptions,
): Promise<Vm> {
  const option = (name: string) => args[args.indexOf(name) + 1] ?? '';
  const incoming = args.includes('-incoming');
  const paused = args.includes('-S');
  const begin = incoming ? 'incoming' : paused ? 'paused' : 'running';
  const mebibytes = args.includes('-m') ? Number(option('-m')) : 64;
  const guest = await BuiltinGuest.start({ size: mebibytes << 20, fill: 20, dirtyRate: 4 << 20, begin });
  const profile = qemuProfile(name);
  const backend = new BuiltinBackend(guest, { profile, paused });
  const monitor = new Monitor({ backend, profile });
  await monitor.listenQmp(socket);
  if (args.includes('migration.mapped-ram=on')) {
    await monitor.setCapabilities([{ capability: 'mapped-ram', state: true }]);
  }
  if (incoming && option('-incoming') !== 'defer')
    await monitor.migrateIncoming({ uri: option('-incoming') }, {});
  // The sets are there as long as any client is.
  const client = await RawClient.connect(socket);
  await passDescriptors(socket, flags);
  return { monitor, client };
}

/** What `-add-fd set=1` did on the command line of the QEMU that was recorded. */
async function passDescriptors(socket: string, flags: readonly number[]): Promise<void> {
  if (flags.length === 0) return;
  const client = await RawClient.connect(socket);
  await client.negotiate();
  writeFileSync('fds.mig', '', { flag: 'a' });
  for (const flag of flags) {
    const fd = openSync('fds.mig', flag | constants.O_CREAT);
    const request = '{"execute": "add-fd", "arguments": {"fdset-id": 1}}\n';
    await sendDescriptors(client.socket, Buffer.from(request), [fd]);
    await client.reply();
    closeSync(fd);
  }
  client.destroy();
}

async function close(vm: Vm | undefined): Promise<void> {
  vm?.client.destroy();
  await vm?.monitor.close();
}

function isAside(message: JsonObject): boolean {
  if (message.event === 'MIGRATION_PASS') return (message.data as JsonObject).pass !== 1;
  const status = migrateStatus(message);
  return status !== undefined && !TERMINAL.has(status);
}

function isTerminal({ event, data }: JsonObject): boolean {
  return event === 'MIGRATION' && TERMINAL.has(String((data as JsonObject).status));
}

function migrateStatus(message: JsonObject): string | undefined {
  const result = message.return;
  // The answers to query-status have a status as well.
  return isJsonObject(result) && typeof result.status === 'string' && result.running === undefined
    ? result.status
    : undefined;
}

const UNDER_WAY = "There's a migration process in progress";

/** The requests behind a `migrate` that the recorded QEMU answered while that was under way. */
function sentMeanwhile(
  transcript: readonly TranscriptLine[],
  index: number,
): Extract<TranscriptLine, { kind: 'send' }>[] {
  const found = [];
  const line = transcript[index];
  if (line?.kind !== 'send' || !line.text.includes('"migrate"')) return [];
  for (let next = index + 1; next < transcript.length; next++) {
    const request = transcript[next];
    if (request?.kind !== 'send') continue;
    const reply = transcript.slice(next).find((candidate) => candidate.kind === 'receive');
    if (reply?.kind !== 'receive' || !isUnderWay(reply.message)) break;
    found.push(request);
  }
  return found;
}

function isUnderWay({ error }: JsonObject): boolean {
  return isJsonObject(error) && error.desc === UNDER_WAY;
}

/** Asks again until a migration has got as far as the recorded one had. */
async function nextReply(
  client: RawClient,
  expected: JsonObject,
  sent: string,
): Promise<JsonObject | undefined> {
  let reply = await client.reply();
  const wanted = migrateStatus(expected);
  const deadline = Date.now() + patience;
  while (reply && wanted !== undefined && Date.now() < deadline) {
    const status = migrateStatus(reply);
    if (status === undefined || TERMINAL.has(status)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.send(`${sent}\n`);
    reply = await client.reply();
  }
  while (reply && isUnderWay(reply) && !isUnderWay(expected) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.send(`${sent}\n`);
    reply = await client.reply();
  }
  return reply;
}

/** The next event; undefined when none comes, and nothing is under way that could bring one. */
async function nextEvent(vm: Vm): Promise<JsonObject | undefined> {
  for (const deadline = Date.now() + patience; Date.now() < deadline; ) {
    // One that was waited for in vain is still to come.
    vm.event ??= vm.client.event();
    const event = await Promise.race([
      vm.event,
      new Promise<'late'>((resolve) => setTimeout(() => resolve('late'), LATE_MS).unref()),
    ]);
    if (event === 'late') {
      if (isMigrationRunning((await vm.monitor.backend.migrationStatus()) as MigrationStatus)) continue;
      return undefined;
    }
    vm.event = undefined;
    if (event === undefined || !isAside(event)) return event;
  }
  return undefined;
}

function normalize(message: JsonObject): JsonValue {
  const { timestamp: _, ...rest } = message;
  if (isJsonObject(rest.QMP)) return { QMP: 'greeting' };
  const result = rest.return;
  if (isJsonObject(result)) {
    if (result.qemu !== undefined) return { ...rest, return: 'version' };
    if (migrateStatus(message) !== undefined) return { ...rest, return: withoutNumbers(result) };
  }
  if (
    Array.isArray(result) &&
    result.some((entry) => isJsonObject(entry) && entry['fdset-id'] !== undefined)
  ) {
    return { ...rest, return: withoutNumbers(result) };
  }
  if (typeof result === 'string' && result.includes('Migration status:')) {
    return { ...rest, return: withoutFigures(result) };
  }
  return rest;
}

function withoutNumbers(value: JsonValue): JsonValue {
  if (typeof value === 'number' || typeof value === 'bigint' || value instanceof JsonDouble) return 0;
  if (Array.isArray(value)) return value.map(withoutNumbers);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutNumbers(member)]));
}

/** Two counters are printed only when they are not zero. */
function withoutFigures(text: string): string {
  return text.replaceAll(/(?:precopy|downtime) ram: .*\r\n/g, '').replaceAll(/\d+(?:\.\d+)?/g, 'N');
}

function show(value: JsonValue): string {
  return JSON.stringify(value, (_, member) => (typeof member === 'bigint' ? String(member) : member));
}
