/**
 * Lets QEMU (9.1 or later) write the mapped-ram file itself: `migrate file:…` with mapped-ram, multifd and direct-io.
 *
 * Over a Unix socket QEMU gets the opened descriptors in an fdset, so it needs no right to create files, follows no
 * path, and never opens with O_DIRECT itself: where a file system refuses that, QEMU 10.0.2 dies. Over TCP it gets the
 * path, which the caller has found to take O_DIRECT.
 */
import { constants } from 'node:fs';
import { type LentFdset, lendFile } from '../guest/qemu/lent-fdset.js';
import { MigrationSettings } from '../guest/qemu/migration-settings.js';
import type { QemuMigrationInfo, QemuVm } from '../guest/qemu/qemu-vm.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { releaseFiles, reopenFile } from '../io/file/open-file.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import { type LiveLimits, liveCapabilities, liveParameters, withinLimits } from './live-limits.js';

export interface NativeSaveOptions {
  /** The file, which exists and is empty; open for writing. */
  fd: number;
  /** Absolute, for a QEMU that cannot be given descriptors. */
  path: string;
  offset: number;
  channels: number;
  directIo: boolean;
  /** Present when the guest runs on while its RAM is written. */
  live?: LiveLimits;
  signal: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
}

export interface NativeSaveResult {
  info: QemuMigrationInfo;
  downtimeMs: number;
  /** Whether the guest was stopped only for saving, so that the file says it was paused. */
  stoppedHere: boolean;
  /** Lets the guest run again if it ran before, or if QEMU stopped it for the switchover. */
  resume(): Promise<void>;
}

/**
 * Saves and leaves the guest stopped.
 *
 * @throws MapramError with QEMU's reason; the guest then runs if it ran before
 */
export async function saveNatively(vm: QemuVm, options: NativeSaveOptions): Promise<NativeSaveResult> {
  const { offset, channels, directIo, live, signal, onProgress } = options;
  const wasRunning = (await vm.assertCanMigrate()) === 'running';
  const capabilities = ['mapped-ram', 'multifd', 'events', ...(live ? liveCapabilities(live) : [])];
  const settings = await MigrationSettings.apply(vm, capabilities, {
    'multifd-channels': channels,
    'multifd-compression': 'none',
    'direct-io': directIo,
    'max-bandwidth': 0,
    'tls-creds': '',
    ...(live ? liveParameters(live) : {}),
  });
  const meter = new ProgressMeter();
  const report = (info: QemuMigrationInfo) => {
    const { ram } = info;
    if (!ram || !onProgress) return;
    onProgress(
      meter.report(info.status === 'device' ? 'device state' : 'RAM', {
        bytes: (ram.duplicate + ram.normal) * ram['page-size'],
        totalBytes: ram.total,
        pages: ram.duplicate + ram.normal,
        channels: [],
      }),
    );
  };
  let stoppedAt: number | undefined;
  let migrating = false;
  await using target = await openTarget(vm, options);
  try {
    const stop = async () => {
      await vm.stop();
      stoppedAt = performance.now();
    };
    if (!live && wasRunning) await stop();
    signal.throwIfAborted();
    migrating = true;
    await vm.client.execute('migrate', {
      uri: offset === 0 ? `file:${target.path}` : `file:${target.path},offset=${offset}`,
    });
    const completed = vm.waitForMigration(['completed'], { signal, onInfo: report });
    const info = await withinLimits(vm, live ?? {}, completed, stop);
    migrating = false;
    return {
      info,
      stoppedHere: stoppedAt !== undefined,
      downtimeMs: stoppedAt === undefined ? (info.downtime ?? 0) : Math.round(performance.now() - stoppedAt),
      resume: async () => {
        if (wasRunning) await vm.letRun();
      },
    };
  } catch (error) {
    await giveUp(vm, { migrating, wasRunning }).catch(() => {});
    throw error;
  } finally {
    await settings.restore().catch(() => {});
  }
}

/**
 * A guest that was stopped for its RAM to be written runs again first: QEMU then goes on as with a live migration, whose end may take as
 * long as the disk likes.
 */
async function giveUp(
  vm: QemuVm,
  { migrating, wasRunning }: { migrating: boolean; wasRunning: boolean },
): Promise<void> {
  if (wasRunning && (await vm.runState()) === 'paused') await vm.cont();
  if (migrating) await vm.cancelMigration();
  if (wasRunning) await vm.letRun();
}

async function openTarget(vm: QemuVm, { fd, path, directIo }: NativeSaveOptions): Promise<LentFdset> {
  const fds = [reopenFile(fd, constants.O_WRONLY)];
  try {
    if (directIo) fds.push(reopenFile(fd, constants.O_WRONLY | O_DIRECT));
    return await lendFile(vm, path, fds);
  } finally {
    releaseFiles(fds);
  }
}
