/**
 * A migration that a QEMU of any version sends to this process, over a descriptor of its own or a private Unix socket.
 *
 *     migrate-set-capabilities, -parameters, migrate            QEMU connects: main channel, multifd channels
 *     start                                                     configuration and RAM blocks
 *     place                                                     pages go to their slots
 *     devices                                                   device state; QEMU has completed
 */

import type { PagePlace } from '../channels/page-placer.js';
import { defined } from '../defined.js';
import { MapramError } from '../errors.js';
import { MigrationSettings } from '../guest/qemu/migration-settings.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import { returnsToState } from '../guest/qemu/run-states.js';
import { releaseFiles } from '../io/file/open-file.js';
import { sendsConfiguration } from '../launch/machine-type.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import { type StreamTail, splitTail } from '../stream/device-sections.js';
import { encodeGlobalState, GLOBAL_STATE_BYTES, GLOBAL_STATE_SECTION } from '../stream/global-state.js';
import { isToldToFail } from '../stream/return-path.js';
import type { StreamStart } from '../stream/stream-frame.js';
import {
  type ReceivedPages,
  type StreamTail as ReceivedTail,
  StreamReceiver,
} from './receiver/stream-receiver.js';
import { openRouteFrom, type StreamRoute } from './receiver/stream-route.js';
import type { PlacedPages, SourceDevices } from './sources/migration-source.js';

export interface QemuStreamOptions {
  /** Beside `events`, and `multifd` where there are channels. */
  capabilities: readonly string[];
  parameters: Partial<MigrationParameters>;
  /** Multifd channels; 0 for a plain stream. */
  channels: number;
  /** Stop the guest before anything is sent. */
  stopFirst?: boolean;
  /** See `StreamReceiverOptions.silenceMs`. */
  silenceMs?: number;
  /**
   * Take a VM that does not run back to the state it is in, where its QEMU can (see run-states.ts): its migration is made to fail,
   * by the return path, once everything has come. By default it is left in `postmigrate`.
   */
  returns?: boolean;
}

/** No limit on bandwidth, since the socket does not leave the host; no TLS on a private socket. */
const PARAMETERS: Partial<MigrationParameters> = { 'max-bandwidth': 0, 'tls-creds': '' };

const NOTHING_PLACED: ReceivedPages = { normalPages: 0, duplicatePages: 0, bytes: 0, channels: [] };

export class QemuStream {
  readonly vm: QemuVm;
  readonly #options: QemuStreamOptions;
  readonly #name: string;
  #wasRunning = false;
  #stoppedHere = false;
  /** Whether the migration is made to fail at its end. */
  #refuses = false;
  #settings: MigrationSettings | undefined;
  #route: StreamRoute | undefined;
  readonly #sockets: number[] = [];
  #receiver: StreamReceiver | undefined;
  #migrating = false;
  #downtime = new Stopwatch();
  #bytesBeforeStop: number | undefined;
  #endEvents: (() => void) | undefined;
  #cancelling: Promise<void> | undefined;
  #disposing: Promise<void> | undefined;
  #signal: AbortSignal | undefined;
  readonly #onAbort = () => void this.cancel();

  constructor(vm: QemuVm, options: QemuStreamOptions) {
    this.vm = vm;
    this.#options = options;
    this.#name = `the stream of the VM at ${vm.address}`;
  }

  /** Whether the guest ran when the migration began. */
  get wasRunning(): boolean {
    return this.#wasRunning;
  }

  /** The QEMU process, undefined where neither the monitor nor a connection that QEMU made tells. */
  get peerPid(): number | undefined {
    return this.vm.peerPid() ?? this.#route?.peerPid;
  }

  /** Starts the threads, which take as long as a good many questions to QEMU. Then there must be a `dispose`. */
  prepare(): void {
    const { channels, silenceMs } = this.#options;
    this.#receiver ??= new StreamReceiver({
      connections: channels + 1,
      name: this.#name,
      ...defined({ silenceMs }),
    });
  }

  /** Has QEMU connect and reads up to the RAM block list. */
  async open(signal: AbortSignal): Promise<StreamStart> {
    const { vm } = this;
    const { capabilities, parameters, channels, stopFirst = false, returns = false } = this.#options;
    this.#wasRunning = (await vm.assertCanMigrate()) === 'running';
    await assertConfigured(vm);
    this.#refuses = returns && !this.#wasRunning && returnsToState(vm, 'stream');
    this.prepare();
    const receiver = this.#receiver as StreamReceiver;
    const uuid = await vm.uuid();
    this.#settings = await MigrationSettings.apply(
      vm,
      [
        ...capabilities,
        'events',
        ...(channels > 0 ? ['multifd'] : []),
        ...(this.#refuses ? ['return-path'] : []),
      ],
      {
        ...PARAMETERS,
        ...defined({ 'multifd-channels': channels > 0 ? channels : undefined }),
        ...parameters,
      },
    );
    const route = await openRouteFrom(vm, channels + 1);
    this.#route = route;
    this.#watchRunState();
    if (stopFirst && this.#wasRunning) await this.stopGuest();
    signal.throwIfAborted();
    this.#signal = signal;
    signal.addEventListener('abort', this.#onAbort, { once: true });
    this.#migrating = true;
    await vm.client.execute('migrate', { uri: route.uri });
    this.#sockets.push(...(await route.connect(signal)));
    receiver.connected(this.#sockets, uuid, this.#refuses);
    return await this.#orQemuReason(receiver.start());
  }

  place(where: PagePlace): void {
    this.#receiver?.place(where);
  }

  /** See `StreamReceiver.hasReceived`. */
  hasReceived(block: number): boolean {
    return this.#receiver?.hasReceived(block) ?? false;
  }

  counters(): PlacedPages {
    const { channels, ...placed } = this.#receiver?.counters() ?? NOTHING_PLACED;
    const bytesBeforeStop = this.#wasRunning ? (this.#bytesBeforeStop ?? placed.bytes) : 0;
    return { ...placed, bytesBeforeStop, channels };
  }

  /** Stops the guest; the stream will still say that it ran. */
  async stopGuest(): Promise<void> {
    await this.vm.stop();
    this.#noteStop();
    this.#stoppedHere = true;
  }

  /**
   * The device state, once QEMU has sent everything and completed.
   *
   * @throws MapramError with QEMU's reason where it gave up; `FORMAT` for an unsound stream
   */
  async devices(signal: AbortSignal): Promise<SourceDevices> {
    const { vm } = this;
    const receiver = this.#receiver as StreamReceiver;
    const received = await this.#orQemuReason(receiver.tail());
    await this.#ended(signal);
    this.#migrating = false;
    if (this.#options.capabilities.includes('background-snapshot')) this.#assertSavedAtOnce(received);
    const { switchoverStart, amongRam } = received;
    const { sectionBytes, sections, descriptionText } = await soundTail(received, this.#name, vm.address);
    if (this.#stoppedHere) {
      const globalState = sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
      if (globalState?.data.byteLength === GLOBAL_STATE_BYTES)
        globalState.data.set(encodeGlobalState(vm.asleep ? 'suspended' : 'running'));
    }
    return {
      amongRam,
      sections: sectionBytes,
      switchoverStart,
      ...defined({ vmdescription: descriptionText }),
    };
  }

  /**
   * A background snapshot has no last round of devices that are saved in rounds: they would be half of the moment of the
   * stop and half of later ones.
   */
  #assertSavedAtOnce({ devicesInRounds }: ReceivedTail): void {
    const [device] = devicesInRounds;
    if (device === undefined) return;
    throw new MapramError(
      'UNSUPPORTED',
      `saving the VM at ${this.vm.address} in the background: QEMU saves its device ${device} in rounds and leaves out the last one; use --live`,
      { path: this.vm.address },
    );
  }

  /** QEMU has completed, or has failed as it was told to. */
  async #ended(signal: AbortSignal): Promise<void> {
    const { vm } = this;
    if (!this.#refuses) {
      await vm.waitForMigration(['completed'], { signal });
      return;
    }
    const { 'error-desc': reason } = await vm.waitForMigration(['failed', 'completed'], { signal });
    if (reason === undefined || isToldToFail(reason)) return;
    throw new MapramError('MIGRATION', `receiving ${this.#name}: QEMU gave up: ${reason}`, {
      path: vm.address,
    });
  }

  /** How long the guest has stood still so far, in ms. */
  downtimeMs(): number {
    return this.#downtime.elapsed();
  }

  /** Lets a guest that ran before run again, after a completed migration. */
  async resume(): Promise<void> {
    if (this.#wasRunning) await this.vm.letRun();
  }

  /** Gives up. A guest that ran before goes on. Never throws. */
  cancel(): Promise<void> {
    this.#cancelling ??= this.#cancel();
    return this.#cancelling;
  }

  dispose(): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#endEvents?.();
    await this.#receiver?.dispose();
    await this.#route?.[Symbol.asyncDispose]();
    releaseFiles(this.#sockets.splice(0));
    try {
      await this.#settings?.restore();
    } catch {
      // QEMU is gone, or its owner has begun something else: then the settings are no longer ours.
    }
  }

  async #cancel(): Promise<void> {
    try {
      // QEMU's main loop may be waiting for this process to read on; closing the connections frees it to answer.
      const cancelled = this.#migrating ? this.vm.cancelMigration() : undefined;
      this.#receiver?.abort();
      await cancelled;
      this.#migrating = false;
      if (this.#wasRunning) await this.vm.letRun();
    } catch {
      // QEMU is gone, and its guest with it: the error that led here tells.
    }
  }

  /** QEMU stops the guest by itself when it switches over; background snapshots let it run again soon after. */
  #watchRunState(): void {
    const events = this.vm.client.events({ names: ['STOP', 'RESUME'] });
    this.#endEvents = () => void events.return?.();
    void (async () => {
      try {
        let stoppedAt: number | undefined;
        for await (const { event, timestamp } of events) {
          const at = timestamp.seconds * 1000 + timestamp.microseconds / 1000;
          if (event === 'STOP') {
            stoppedAt = at;
            this.#noteStop();
          } else {
            // By QEMU's clock: after a short stop both events arrive at once.
            this.#downtime.stop(stoppedAt === undefined ? undefined : Math.max(0, at - stoppedAt));
            stoppedAt = undefined;
          }
        }
      } catch {
        // The monitor is gone; everything else that uses it says so.
      }
    })();
  }

  #noteStop(): void {
    this.#downtime.start();
    this.#bytesBeforeStop ??= this.counters().bytes;
  }

  /** A stream that breaks off is a symptom; QEMU knows the cause. */
  async #orQemuReason<T>(result: Promise<T>): Promise<T> {
    try {
      return await result;
    } catch (error) {
      if (this.#signal?.aborted) throw this.#signal.reason;
      const reason = await this.vm.migrationInfo().then(
        (info) => info['error-desc'],
        (lost: unknown) => {
          if (this.vm.client.closed) throw lost;
          return undefined;
        },
      );
      if (reason === undefined) throw error;
      throw new MapramError('MIGRATION', `${(error as Error).message}; QEMU gave up: ${reason}`, {
        path: this.vm.address,
        cause: error,
      });
    }
  }
}

/**
 * The parts of a tail that has come whole.
 *
 * @throws MapramError `MIGRATION`
 */
export async function soundTail(
  { tail, started, footers }: ReceivedTail,
  name: string,
  path?: string,
): Promise<StreamTail> {
  const split = await splitTail(tail, { started, footers });
  // A connection has no sectors.
  const rest = split.trailingBytes + split.paddingBytes;
  if (split.complete && rest === 0) return split;
  const problems =
    split.problems.length > 0 ? split.problems : [`${rest} bytes follow the end of the stream`];
  throw new MapramError(
    'MIGRATION',
    `receiving ${name}: its device state is not sound: ${problems.join(', ')}`,
    defined({ path }),
  );
}

/** How long the guest stood still, in ms. Starting a running one again changes nothing. */
class Stopwatch {
  #total = 0;
  #since: number | undefined;

  start(): void {
    this.#since ??= performance.now();
  }

  /** @param lasted for how long it ran, where somebody knows better */
  stop(lasted?: number): void {
    this.#total = lasted === undefined || this.#since === undefined ? this.elapsed() : this.#total + lasted;
    this.#since = undefined;
  }

  elapsed(): number {
    return this.#total + (this.#since === undefined ? 0 : performance.now() - this.#since);
  }
}

/** @throws MapramError `UNSUPPORTED`, before the guest is stopped, where the stream would lack what a mapped-ram file begins with */
async function assertConfigured(vm: QemuVm): Promise<void> {
  const machine = await vm.machine();
  if (sendsConfiguration(machine)) return;
  throw new MapramError(
    'UNSUPPORTED',
    `saving the VM at ${vm.address}: QEMU sends no configuration for a machine as old as ${machine}, and a mapped-ram file needs one; have QEMU itself save it ("migrate exec:cat>FILE"), which "inspect", "diff" and "convert --to elf" read`,
    { path: vm.address },
  );
}
