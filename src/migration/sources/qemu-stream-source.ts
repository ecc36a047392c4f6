/**
 * Any QEMU as the source of a migration: all pages come by its stream, plain or with multifd channels, and the
 * receiving threads place them.
 *
 * | | guest | QEMU |
 * |---|---|---|
 * | stopped | stopped before the first page | any |
 * | live | runs while QEMU sends round after round, stopped by QEMU for the last pages and the device state | any |
 * | background | stopped for the device state only; pages go out before the guest changes them | 9.0, with userfaultfd |
 */

import type { StreamCompression } from '../../channels/socket/payload-decoder.js';
import { defined } from '../../defined.js';
import { isError, MapramError } from '../../errors.js';
import { releaseOf } from '../../guest/qemu/qemu-features.js';
import { isUnknownToQemu, type QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { MigrationParameters } from '../../options/migration-parameters.js';
import { type LiveLimits, liveCapabilities, liveParameters, withinLimits } from '../live-limits.js';
import { QemuStream } from '../qemu-stream.js';
import type { SourceDevices, SourceSetup } from './migration-source.js';
import { QemuStreamedSource } from './qemu-streamed-source.js';

/** How the guest is treated meanwhile. */
export type StreamMode = { kind: 'stopped' } | ({ kind: 'live' } & LiveLimits) | { kind: 'background' };

export interface QemuStreamSourceOptions {
  mode: StreamMode;
  /** Multifd channels, 1 to 16; 0 for a plain stream. */
  channels: number;
  /** How QEMU compresses what it sends through multifd channels; `none` by default. */
  compression?: StreamCompression;
  /** After how long without a byte the stream counts as stuck, in ms; a minute by default. */
  silenceMs?: number;
  /** Bytes a second that QEMU may send while the guest runs; 0, the default, for no limit. */
  maxBandwidth?: MigrationParameters['max-bandwidth'];
  /** See `QemuStreamOptions.returns`; a background snapshot does so by itself. */
  returns?: boolean;
}

const SILENCE_MS = 60_000;

/** Parameters of QEMU that act on a migration that has begun. */
const CHANGEABLE = ['max-bandwidth'] as const;
const CHANGEABLE_LIVE = [...CHANGEABLE, 'downtime-limit'] as const;

export class QemuStreamSource extends QemuStreamedSource {
  readonly #mode: StreamMode;
  #migrating = false;
  /** Parameters that were changed before QEMU had begun. */
  #changed: MigrationParameters | undefined;
  #devices: Promise<SourceDevices> | undefined;

  constructor(vm: QemuVm, options: QemuStreamSourceOptions) {
    const { mode, channels, compression = 'none', silenceMs = SILENCE_MS, maxBandwidth = 0 } = options;
    const { returns = false } = options;
    super(
      new QemuStream(vm, {
        capabilities: capabilitiesOf(mode),
        parameters: {
          'max-bandwidth': maxBandwidth,
          ...defined({ 'multifd-compression': channels > 0 ? compression : undefined }),
          ...(mode.kind === 'live' ? liveParameters(mode) : {}),
        },
        channels,
        stopFirst: mode.kind === 'stopped',
        silenceMs,
        returns: returns && mode.kind !== 'background',
      }),
    );
    this.#mode = mode;
  }

  async setup(signal: AbortSignal): Promise<SourceSetup> {
    const { vm } = this.stream;
    if (this.#mode.kind === 'background' && !vm.has('backgroundSnapshotEnds')) {
      throw new MapramError(
        'UNSUPPORTED',
        `saving the VM at ${vm.address} in the background: QEMU ${vm.versionText} may never end such a snapshot (${releaseOf('backgroundSnapshotEnds')} does); use --live`,
        { path: vm.address },
      );
    }
    try {
      const start = await this.stream.open(signal);
      this.#migrating = true;
      if (this.#changed) await this.changeParameters(this.#changed);
      return start;
    } catch (error) {
      if (this.#mode.kind !== 'background' || !isError(error)) throw error;
      throw explainedRefusal(this.stream.vm, error);
    }
  }

  /** Here all pages are awaited, and with them the device state, which QEMU sends right behind them. */
  async stop(signal: AbortSignal): Promise<number[]> {
    this.#devices = this.stream.devices(signal);
    // It is awaited in any case; until then a failure is not forgotten but not unhandled either.
    this.#devices.catch(() => {});
    const limits = this.#mode.kind === 'live' ? this.#mode : {};
    await withinLimits(this.stream.vm, limits, this.#devices, () => this.stream.stopGuest());
    return [];
  }

  async devices(signal: AbortSignal): Promise<SourceDevices> {
    return await (this.#devices ?? this.stream.devices(signal));
  }

  async changeParameters(parameters: MigrationParameters): Promise<void> {
    this.#changed = parameters;
    if (!this.#migrating) return;
    const names = this.#mode.kind === 'live' ? CHANGEABLE_LIVE : CHANGEABLE;
    await this.stream.vm.client.execute(
      'migrate-set-parameters',
      Object.fromEntries(names.map((name) => [name, parameters[name]])),
    );
  }
}

function capabilitiesOf(mode: StreamMode): string[] {
  if (mode.kind === 'background') return ['background-snapshot'];
  return mode.kind === 'live' ? liveCapabilities(mode) : [];
}

/** Why a background snapshot does not begin, in words that help. */
function explainedRefusal(vm: QemuVm, error: Error): Error {
  const advice = isUnknownToQemu(error)
    ? `QEMU ${vm.versionText} has no background snapshots (6.0 has)`
    : /host kernel|userfault|write.?(tracking|protect)|memory backend/i.test(error.message)
      ? `${error.message}; the kernel must offer userfaultfd with write protection to QEMU (sysctl vm.unprivileged_userfaultfd=1 or a privileged QEMU), and the guest's memory must not be a shared file`
      : undefined;
  if (advice === undefined) return error;
  return new MapramError(
    'UNSUPPORTED',
    `saving the VM at ${vm.address} in the background: ${advice}; use --live`,
    {
      path: vm.address,
      cause: error,
    },
  );
}
