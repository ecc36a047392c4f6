/**
 * A running QEMU behind a QMP socket: what it is, what it can do, and the few commands that saving and loading need.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { ProcessHandle } from '../../io/process/process-handle.js';
import { processUsers } from '../../io/process/process-user.js';
import type { GuestRegion } from '../../mapped-ram/guest-map.js';
import { isMigrationRunning, type MigrationStatus } from '../../options/migration-status.js';
import { QmpClient, type QmpPatience } from '../../qmp/qmp-client.js';
import type { MigrationInfo, QemuVersion } from '../../qmp/qmp-commands.js';
import { QmpError } from '../../qmp/qmp-error.js';
import { describeBlockedReasons } from './blocked-reasons.js';
import { parseFlatView } from './flat-view.js';
import { hasFeature, type QemuFeatureName, shownFeatures } from './qemu-features.js';
import { isQemuProcess } from './qemu-process.js';
import { parseRamBlocks, type QemuRamBlock } from './ram-block-table.js';
import { whyNotSaved } from './run-states.js';

/** `query-migrate` with its status always present: `none` where there was no migration. */
export type QemuMigrationInfo = MigrationInfo & { status: MigrationStatus };

/** Between two questions for the state of a migration; QEMU's MIGRATION events wake the wait up earlier. */
const POLL_MS = 100;
const CLEANUP_POLL_MS = 2;

/** A migration that has ended leaves `finish-migrate` as soon as QEMU's main loop comes to it. */
const SETTLING_MS = 10;
const MAX_SETTLING_WAITS = 500;

interface WaitOptions {
  signal?: AbortSignal;
  onInfo?: (info: QemuMigrationInfo) => void;
  /** An incoming migration that QEMU waits for: until all connections are there its status is `none`. */
  announced?: boolean;
  /** An incoming migration through one connection: QEMU tells of its end when all is done, so nothing more is asked. */
  settles?: boolean;
}

/** How long QEMU may take to close its disks; a caller that needs more learns it by what is still in use. */
const ENDING_MS = 10_000;

/** The largest `downtime-limit` that QEMU takes: any remainder is small enough. */
const MAX_DOWNTIME_MS = 2_000_000;

export class QemuVm implements AsyncDisposable {
  /** What was found about the other end last: a look into a program is not free. */
  #peer: { pid: number | undefined; isQemu: boolean } | undefined;
  #asleep = false;
  #held = false;
  #shown: ReadonlyMap<QemuFeatureName, boolean> | undefined;
  #ownPid: number | undefined;
  /** Of a borrowed connection. */
  #giveBack: (() => void) | undefined;
  #sleepEvents: AsyncIterableIterator<unknown> | undefined;
  /** Called before the guest is stopped, so that whoever puts things right later knows by whom. */
  beforeStop: () => void = () => {};

  private constructor(
    /** As the user gave it, for messages. */
    readonly address: string,
    readonly client: QmpClient,
    readonly version: QemuVersion,
    /** Whether others could connect to it by its address. */
    readonly hasAddress = true,
  ) {}

  /**
   * @param options.signal gives up connecting, and ends all waits for answers later: see `QmpPatience`
   * @param options.onSilence see `QmpPatience`
   * @param options.timeoutMs see `QmpConnectOptions`
   * @throws MapramError `MONITOR` when nobody listens there or it is not a QMP server
   */
  static async connect(
    address: string,
    { onSilence, ...options }: QmpPatience & { timeoutMs?: number } = {},
  ): Promise<QemuVm> {
    const client = await QmpClient.connect(address, options);
    const { signal } = options;
    client.setPatience({ ...defined({ signal, onSilence }) });
    return QemuVm.over(client, address);
  }

  /**
   * Over a connection of the caller's, which stays open afterwards. Until then its waits end as `patience` says, those of others too.
   *
   * @param pid of the QEMU, where this process has started it: its end of the connection does not tell
   */
  static borrow(client: QmpClient, address: string | undefined, patience: QmpPatience, pid?: number): QemuVm {
    const vm = new QemuVm(address ?? client.name, client, client.version.qemu, address !== undefined);
    vm.#ownPid = pid;
    const before = client.setPatience(patience);
    vm.#giveBack = () => client.setPatience(before);
    return vm;
  }

  /** Over a connection that others use as well. */
  static over(client: QmpClient, address: string = client.name): QemuVm {
    return new QemuVm(address, client, client.version.qemu);
  }

  get versionText(): string {
    const { major, minor, micro } = this.version;
    return `${major}.${minor}.${micro}`;
  }

  has(feature: QemuFeatureName): boolean {
    return this.#shown?.get(feature) ?? hasFeature([this.version.major, this.version.minor], feature);
  }

  /** From now on `has` goes by what QEMU shows, and by its release only for the rest. @returns the answers */
  async askFeatures() {
    const [capabilities, parameters] = await Promise.all([
      this.client.execute('query-migrate-capabilities'),
      this.client.execute('query-migrate-parameters'),
    ]);
    const names = new Set<string>(capabilities.map(({ capability }) => capability));
    this.#shown = shownFeatures(names, new Set(Object.keys(parameters)));
    return { capabilities, parameters };
  }

  async runState(): Promise<string> {
    return (await this.client.execute('query-status')).status;
  }

  /**
   * The QEMU behind the socket; undefined over TCP, behind a relay of any kind, or when it cannot be told: in another PID namespace, or
   * where the number of the process that listened may have come to mean another one, none of whose users listened. Root's QEMUs drop
   * their rights afterwards.
   */
  peerPid(): number | undefined {
    if (this.#ownPid !== undefined) return this.#ownPid;
    const { pid, uid } = this.client.peer ?? {};
    if (!pid || (uid !== 0 && !processUsersOr(pid, [uid]).includes(uid))) return undefined;
    if (pid !== this.#peer?.pid) this.#peer = { pid, isQemu: isQemuProcess(pid) };
    return this.#peer.isQemu ? pid : undefined;
  }

  /** Name of the machine type, resolved: `pc-i440fx-10.0` also where it was started as `pc`. */
  async machine(): Promise<string> {
    const type = await this.client.execute('qom-get', { path: '/machine', property: 'type' });
    return String(type).replace(/-machine$/, '');
  }

  /** Name of the block that is the machine's RAM unless it is given a memory object; undefined where it has none. */
  async defaultRamId(): Promise<string | undefined> {
    const [machine, machines] = await Promise.all([this.machine(), this.client.execute('query-machines')]);
    return machines.find(({ name }) => name === machine)?.['default-ram-id'];
  }

  /** 16 raw bytes, zeros for a VM that was started without. */
  async uuid(): Promise<Uint8Array> {
    const { UUID } = await this.client.execute('query-uuid');
    return Buffer.from(UUID.replaceAll('-', ''), 'hex');
  }

  async ramBlocks(): Promise<QemuRamBlock[]> {
    return parseRamBlocks(await this.humanCommand('info ramblock'));
  }

  /** Where the RAM blocks lie in guest-physical memory. */
  async guestRegions(): Promise<GuestRegion[]> {
    const idstrs = (await this.ramBlocks()).map(({ idstr }) => idstr);
    return parseFlatView(await this.humanCommand('info mtree -f'), idstrs);
  }

  async humanCommand(line: string): Promise<string> {
    return this.client.execute('human-monitor-command', { 'command-line': line });
  }

  async migrationInfo(wait: { signal?: AbortSignal } = {}): Promise<QemuMigrationInfo> {
    const info = await this.client.execute('query-migrate', undefined, wait);
    return { ...info, status: (info.status ?? 'none') as MigrationStatus };
  }

  /**
   * Refuses a VM that cannot be saved now.
   *
   * @returns its run state
   * @throws MapramError `BUSY` or `VM`
   */
  async assertCanMigrate(): Promise<string> {
    const { status, 'blocked-reasons': blocked = [] } = await this.migrationInfo();
    if (blocked.length > 0) throw this.#isBlocked(blocked);
    const runState = await this.runState();
    // A finished incoming migration leaves its status behind; only one that is under way counts.
    if (isMigrationRunning(status)) {
      throw new MapramError(
        'BUSY',
        `saving the VM at ${this.address}: it is migrating already (${status}), wait for that or cancel it`,
        {
          path: this.address,
        },
      );
    }
    const problem = whyNotSaved(runState);
    if (problem !== undefined) {
      throw new MapramError('VM', `saving the VM at ${this.address}: ${problem}`, { path: this.address });
    }
    return runState;
  }

  #isBlocked(reasons: readonly string[]): MapramError {
    return new MapramError(
      'VM',
      `saving the VM at ${this.address}: QEMU cannot migrate it: ${describeBlockedReasons(reasons)}`,
      { path: this.address },
    );
  }

  /**
   * From now on a guest that would run by itself as soon as it is loaded is paused then. Nothing is sent before the load begins, so that a
   * QEMU that is not given one after all is as it was.
   */
  holdAfterLoad(): void {
    this.#held = true;
  }

  /** Has a QEMU that waits load from `uri`. By default a failed load does not end its process, and with it the reason. */
  async migrateIncoming(uri: string, { exitOnError = false }: { exitOnError?: boolean } = {}): Promise<void> {
    const lives = !exitOnError && this.has('exitOnError');
    // While it waits, `stop` only keeps QEMU from starting the guest.
    const held = this.#held ? this.client.execute('stop') : undefined;
    const begun = this.client.execute('migrate-incoming', {
      uri,
      ...defined({ 'exit-on-error': lives ? false : undefined }),
    });
    await Promise.all([held, begun]);
  }

  async stop(): Promise<void> {
    this.beforeStop();
    await this.client.execute('stop');
  }

  async cont(): Promise<void> {
    await this.client.execute('cont');
  }

  /** Ends QEMU, and waits until it is gone: until then its disks and sockets are its own. */
  async quit(): Promise<void> {
    const pid = this.peerPid();
    let handle: ProcessHandle | undefined;
    try {
      handle = pid === undefined ? undefined : ProcessHandle.open(pid);
    } catch {
      // It has ended already, or the kernel is older than pidfds; the end of its connection has to do.
    }
    using _ = handle;
    await this.client.execute('quit').catch(() => {});
    const limit = performance.now() + ENDING_MS;
    const lives = () => handle?.alive ?? !this.client.closed;
    while (lives() && performance.now() < limit) await delay(CLEANUP_POLL_MS);
  }

  /** Whether the guest sleeps (S3), as far as `watchSleep` was asked to know. */
  get asleep(): boolean {
    return this.#asleep;
  }

  /** From now on `letRun` knows of a guest that goes to sleep (S3), or is asleep. @param runState at present */
  watchSleep(runState: string): void {
    this.#asleep = runState === 'suspended';
    const events = this.client.events({ names: ['SUSPEND', 'WAKEUP'] });
    this.#sleepEvents = events;
    void (async () => {
      try {
        for await (const { event } of events) this.#asleep = event === 'SUSPEND';
      } catch {
        // The monitor is gone; everything else that uses it reports that.
      }
    })();
  }

  /**
   * Lets the guest run, once QEMU has settled what a migration did with it. One that fell asleep meanwhile is left as it is where
   * the migration has completed: see `QEMU_FAULTS.contWhileAsleep`.
   */
  async letRun(): Promise<void> {
    for (let waits = 0; ; waits++) {
      const runState = await this.runState();
      if (runState === 'running' || (runState === 'postmigrate' && this.#asleep)) return;
      if (runState !== 'finish-migrate' || waits === MAX_SETTLING_WAITS) break;
      await delay(SETTLING_MS);
    }
    await this.cont();
  }

  /**
   * Resolves with the first migration status out of `wanted`.
   *
   * @throws MapramError `MIGRATION` when the migration ends otherwise, with QEMU's own reason
   */
  async waitForMigration(
    wanted: readonly MigrationStatus[],
    { signal, onInfo, announced = false, settles = false }: WaitOptions = {},
  ): Promise<QemuMigrationInfo> {
    const events = this.client.events({ names: ['MIGRATION'] });
    let event = events.next();
    try {
      for (;;) {
        signal?.throwIfAborted();
        // QEMU may be stuck in the migration and not answer at all.
        const info = await this.migrationInfo(defined({ signal }));
        onInfo?.(info);
        if (!(settles || isMigrationRunning(info.status))) await this.migrationThreadsEnded();
        if (wanted.includes(info.status)) return info;
        if (!isMigrationRunning(info.status) && !(announced && info.status === 'none')) {
          throw new MapramError(
            'MIGRATION',
            `migrating the VM at ${this.address}: it ended as ${info.status}, not as ${wanted.join(' or ')}${info['error-desc'] ? `: ${info['error-desc']}` : ''}`,
            { path: this.address },
          );
        }
        // An event that nobody waits for any more must not be lost: the same promise is waited for until it is kept.
        const happened = await Promise.race([event.then(() => true), delay(POLL_MS, false)]);
        if (happened) event = events.next();
      }
    } finally {
      event.catch(() => {});
      await events.return?.();
    }
  }

  /**
   * Ends a migration under way and waits until QEMU is through with it. The guest then runs if it ran before, or is
   * stopped as after a migration (`postmigrate`) where the migration was let through.
   */
  async cancelMigration(): Promise<void> {
    if (await this.cancellingIsDeadly()) await this.letMigrationThrough();
    else await this.client.execute('migrate_cancel');
    while (isMigrationRunning((await this.migrationInfo()).status)) await delay(CLEANUP_POLL_MS);
    await this.migrationThreadsEnded();
  }

  /**
   * See `QEMU_FAULTS.cancelMappedRam`. No release is known to be free of it.
   */
  private async cancellingIsDeadly(): Promise<boolean> {
    const capabilities = await this.client.execute('query-migrate-capabilities');
    const isOn = (name: string) => capabilities.some(({ capability, state }) => capability === name && state);
    return isOn('mapped-ram') && isOn('multifd');
  }

  /** Waits for the end of the migration, which comes with the present pass even if the guest dirties memory quickly. */
  private async letMigrationThrough(): Promise<void> {
    const { 'downtime-limit': before } = await this.client.execute('query-migrate-parameters');
    await this.client.execute('migrate-set-parameters', { 'downtime-limit': MAX_DOWNTIME_MS });
    try {
      for (;;) {
        const { status } = await this.migrationInfo();
        if (status === 'pre-switchover') await this.client.execute('migrate-continue', { state: status });
        else if (!isMigrationRunning(status)) break;
        await delay(CLEANUP_POLL_MS);
      }
      await this.migrationThreadsEnded();
    } finally {
      if (before !== undefined)
        await this.client.execute('migrate-set-parameters', { 'downtime-limit': before });
    }
  }

  /**
   * See `QEMU_FAULTS.finishedEarly` and `migrateAfterCancel`. The refusal of `cont` is "Migration is not finalized yet"; when multifd is
   * switched off QEMU forgets to end its channels, and aborts in the next migration.
   */
  private async migrationThreadsEnded(): Promise<void> {
    while ((await this.runState()) === 'finish-migrate') await delay(CLEANUP_POLL_MS);
    try {
      while ((await this.client.execute('query-migrationthreads')).length > 0) await delay(CLEANUP_POLL_MS);
    } catch (error) {
      // Since QEMU 8.0.
      if (!isUnknownToQemu(error)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#giveBack === undefined) return await this.client.close();
    await this.#sleepEvents?.return?.();
    this.#giveBack();
  }
}

/** `unknown` where /proc does not tell. */
function processUsersOr(pid: number, unknown: (number | undefined)[]): readonly (number | undefined)[] {
  try {
    return processUsers(pid);
  } catch {
    return unknown;
  }
}

/** Whether QEMU answered that it does not know a command, parameter or capability. */
export function isUnknownToQemu(error: unknown): boolean {
  return (
    error instanceof QmpError &&
    (error.errorClass === 'CommandNotFound' || /is unexpected|does not accept value/.test(error.description))
  );
}
