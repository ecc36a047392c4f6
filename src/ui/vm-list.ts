/** The VMs that the page shows: those whose monitors were found, and builtin guests of this process. */

import path from 'node:path';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import type { BuiltinGuestOptions } from '../guest/builtin/options.js';
import type { PlainJson } from '../json/plain-json.js';
import { BuiltinBackend } from '../monitor/builtin-backend.js';
import { Monitor } from '../monitor/monitor.js';
import { qemuProfile } from '../options/qemu-profile.js';
import { quitVms } from '../snapshot/lifecycle/control-vms.js';
import { RequestError } from './reply.js';
import { type FoundSocket, findSockets, socketIdentity } from './socket-finder.js';
import { connectMonitor, connectVm, type VmConnection } from './vm-connection.js';

/** What the page shows of a VM. */
export interface VmEntry {
  /** Path of the QMP socket, or `builtin:N`. */
  readonly address: string;
  readonly kind: 'qemu' | 'builtin';
  /**
   * - `open`: its monitor answered, `runState` and the rest are there
   * - `busy`: somebody else is connected to the monitor
   * - `failed`: it cannot be asked, `message` says why
   */
  readonly monitor: 'open' | 'busy' | 'failed';
  readonly message?: string;
  readonly name?: string;
  readonly pid?: number;
  /** Of the QEMU. */
  readonly version?: string;
  readonly machine?: string;
  /** QEMU's word. */
  readonly runState?: string;
  /** QEMU's word for the state of its last migration; `none` where there was none. */
  readonly migration?: string;
  /** Whether it waits for a file to be loaded. */
  readonly waiting: boolean;
  /** The operation of mapram that has it in hand now. */
  readonly operation?: number;
}

interface Builtin {
  readonly guest: BuiltinGuest;
  readonly monitor: Monitor;
}

/** How long a socket that did not greet like a monitor is left alone. */
const SILENT_MS = 30_000;
/** Monitors asked at the same time. */
const ASKED_AT_ONCE = 8;

export class VmList implements AsyncDisposable {
  readonly #places: string[];
  readonly #builtins = new Map<string, Builtin>();
  #entries = new Map<string, VmEntry>();
  /** The last in line for each monitor: mapram itself is never two clients of one. */
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #operations = new Map<string, number>();
  /** Sockets that turned out to be no monitors, by path: their identity then, and until when that is believed. */
  readonly #strangers = new Map<string, { identity: string; until: number }>();
  readonly #closing = new AbortController();
  #refreshing: Promise<void> | undefined;
  #builtinCount = 0;

  /**
   * @param places where to look for sockets
   * @param everywhere whether the monitors of all running QEMUs are wanted as well
   * @param onChange called when `entries` has changed
   */
  constructor(
    places: readonly string[],
    private readonly everywhere: boolean,
    private readonly onChange: () => void,
  ) {
    this.#places = [...places];
  }

  /** One for each VM: of several monitors the one that is of most use. */
  get entries(): VmEntry[] {
    const chosen = new Map<number | string, VmEntry>();
    for (const entry of this.#entries.values()) {
      const operation = this.#operations.get(entry.address);
      const candidate = operation === undefined ? entry : { ...entry, operation };
      const key = (entry.kind === 'qemu' && entry.pid) || entry.address;
      const other = chosen.get(key);
      if (other === undefined || usefulness(candidate) > usefulness(other)) chosen.set(key, candidate);
    }
    return [...chosen.values()];
  }

  /** @throws RequestError 404 for an address that is not in the list: the page cannot make mapram connect anywhere */
  entry(address: string): VmEntry {
    const entry = this.entries.find((candidate) => candidate.address === address);
    if (entry === undefined) throw new RequestError(404, `there is no VM at ${address}`);
    return entry;
  }

  /** The same. @throws MapramError `BUSY` while an operation has it in hand */
  freeEntry(address: string): VmEntry {
    const entry = this.entry(address);
    this.#assertFree(address);
    return entry;
  }

  /** The VM as saving and loading take it. */
  target(address: string): string | BuiltinGuest {
    return this.#builtins.get(address)?.guest ?? this.entry(address).address;
  }

  async startBuiltin(options: BuiltinGuestOptions, begin: 'running' | 'incoming'): Promise<string> {
    const guest = await BuiltinGuest.start({ ...options, begin });
    const profile = qemuProfile('10.0');
    const monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
    this.#builtinCount += 1;
    const address = `builtin:${this.#builtinCount}`;
    this.#builtins.set(address, { guest, monitor });
    guest.on('runState', () => void this.#look({ path: address }));
    await this.#look({ path: address });
    return address;
  }

  async removeBuiltin(address: string): Promise<void> {
    const builtin = this.#builtins.get(address);
    this.#builtins.delete(address);
    if (this.#entries.delete(address)) this.onChange();
    await builtin?.monitor.close();
  }

  /** Looks at one more socket from now on: that of a VM that was just started. */
  watch(socket: string): void {
    if (!this.#places.includes(socket)) this.#places.push(socket);
    void this.#look({ path: socket });
  }

  /** Looks for VMs and asks each for its state. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Has a short conversation with a VM. @throws MapramError `BUSY` while an operation has it in hand */
  async converse<T>(address: string, talk: (connection: VmConnection) => Promise<T>): Promise<T> {
    this.freeEntry(address);
    return await this.#inTurn(address, async () => {
      await using connection = await this.#connect(address);
      return await talk(connection);
    });
  }

  /**
   * Pauses, continues or ends a VM, and what mapram made for it goes with it.
   *
   * @returns the VM as it is then; undefined for one that has ended
   * @throws MapramError `BUSY` while an operation has it in hand, `QMP` in QEMU's words
   */
  async change(address: string, action: 'stop' | 'cont' | 'quit'): Promise<VmEntry | undefined> {
    const { kind } = this.freeEntry(address);
    if (action !== 'quit') {
      await this.converse(address, (connection) => connection.execute(action));
      await this.refresh();
      return this.entry(address);
    }
    if (kind === 'builtin') await this.removeBuiltin(address);
    else await this.#inTurn(address, () => quitVms({ vm: address, signal: this.#closing.signal }));
    await this.refresh();
    return undefined;
  }

  /**
   * Takes a VM in hand for an operation. Until `release` nobody else of mapram connects to it.
   *
   * @throws MapramError `BUSY` when another operation has it
   */
  claim(address: string, operation: number): void {
    this.#assertFree(address);
    this.#operations.set(address, operation);
    this.onChange();
  }

  /** Resolves when the conversations begun before have ended. */
  async idle(address: string): Promise<void> {
    await this.#queues.get(address);
  }

  async release(address: string): Promise<void> {
    this.#operations.delete(address);
    this.onChange();
    if (this.#entries.has(address)) await this.#look({ path: address });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new MapramError('CANCELLED', 'the page is being closed'));
    await this.#refreshing?.catch(() => {});
    await Promise.all([...this.#builtins.values()].map(({ monitor }) => monitor.close()));
  }

  async #refresh(): Promise<void> {
    const sockets = findSockets(this.#places, this.everywhere).filter((socket) => !this.#isStranger(socket));
    const present = new Set([...sockets.map(({ path: name }) => name), ...this.#builtins.keys()]);
    for (const address of [...this.#entries.keys()]) {
      if (!present.has(address) && !this.#operations.has(address)) {
        this.#entries.delete(address);
        this.onChange();
      }
    }
    const waiting = [...sockets, ...[...this.#builtins.keys()].map((address) => ({ path: address }))];
    const work = async () => {
      for (let socket = waiting.shift(); socket; socket = waiting.shift()) await this.#look(socket);
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, work));
  }

  /** Asks one VM and notes the answer. Never throws. */
  async #look(socket: FoundSocket): Promise<void> {
    const { path: address } = socket;
    if (this.#operations.has(address) || this.#closing.signal.aborted) return;
    const entry = await this.#inTurn(address, async () => {
      // An operation may have begun while this waited.
      return this.#operations.has(address) ? undefined : await this.#ask(socket);
    });
    if (entry === undefined || this.#closing.signal.aborted) return;
    const before = this.#entries.get(address);
    if (JSON.stringify(before) === JSON.stringify(entry)) return;
    this.#entries.set(address, entry);
    this.onChange();
  }

  async #ask(socket: FoundSocket): Promise<VmEntry | undefined> {
    const { path: address } = socket;
    const kind = this.#builtins.has(address) ? 'builtin' : 'qemu';
    const basis = { address, kind, ...defined({ pid: socket.pid }) } as const;
    try {
      await using connection = await this.#connect(address);
      return { ...basis, ...(await describe(connection)), monitor: 'open' };
    } catch (error) {
      const busy = error instanceof MapramError && error.code === 'BUSY';
      if (socket.pid === undefined && !this.#isNamed(address)) {
        const known = this.#entries.get(address);
        this.#strangers.set(address, {
          identity: socketIdentity(address),
          // One that says nothing may be a monitor that is in use; anything else stays what it is.
          until: busy ? performance.now() + SILENT_MS : Number.POSITIVE_INFINITY,
        });
        if (known === undefined) return undefined;
        this.#strangers.delete(address);
      }
      return {
        ...basis,
        monitor: busy ? 'busy' : 'failed',
        message: busy ? 'another client is connected to its monitor' : errorReason(error),
        waiting: false,
      };
    }
  }

  /** Whether the user named this very socket. */
  #isNamed(address: string): boolean {
    return this.#builtins.has(address) || this.#places.some((place) => path.resolve(place) === address);
  }

  #isStranger({ path: address }: FoundSocket): boolean {
    const stranger = this.#strangers.get(address);
    if (stranger === undefined) return false;
    if (performance.now() < stranger.until && stranger.identity === socketIdentity(address)) return true;
    this.#strangers.delete(address);
    return false;
  }

  async #connect(address: string): Promise<VmConnection> {
    const builtin = this.#builtins.get(address);
    return builtin ? connectMonitor(builtin.monitor) : await connectVm(address, this.#closing.signal);
  }

  #assertFree(address: string): void {
    const operation = this.#operations.get(address);
    if (operation !== undefined) {
      throw new MapramError(
        'BUSY',
        `the VM at ${address} is in the hands of operation ${operation}, wait for it or cancel it`,
        { path: address },
      );
    }
  }

  async #inTurn<T>(address: string, work: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(address) ?? Promise.resolve();
    const run = before.then(work);
    const settled = run.then(
      () => {},
      () => {},
    );
    this.#queues.set(address, settled);
    try {
      return await run;
    } finally {
      if (this.#queues.get(address) === settled) this.#queues.delete(address);
    }
  }
}

function usefulness({ operation, monitor }: VmEntry): number {
  if (operation !== undefined) return 2;
  return monitor === 'open' ? 1 : 0;
}

async function describe(connection: VmConnection) {
  // Monitors that speak for something else than a QEMU know only some of these.
  const optional = (command: string, args?: object): Promise<PlainJson | undefined> =>
    connection.execute(command, args).catch((error: unknown) => {
      if (error instanceof MapramError && error.code === 'QMP') return undefined;
      throw error;
    });
  const [status, migration, name, type] = await Promise.all([
    connection.execute('query-status'),
    connection.execute('query-migrate'),
    optional('query-name'),
    optional('qom-get', { path: '/machine', property: 'type' }),
  ]);
  const runState = text(member(status, 'status')) ?? 'unknown';
  const migrationStatus = text(member(migration, 'status')) ?? 'none';
  const vmName = text(member(name, 'name'));
  const machine = text(type)?.replace(/-machine$/, '');
  return {
    ...defined({ pid: connection.pid }),
    version: connection.version,
    ...defined({ name: vmName, machine }),
    runState,
    migration: migrationStatus,
    waiting: runState === 'inmigrate' && migrationStatus === 'none',
  };
}

function member(value: PlainJson | undefined, key: string): PlainJson | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value[key] : undefined;
}

function text(value: PlainJson | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
