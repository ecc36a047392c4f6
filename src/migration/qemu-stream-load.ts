/**
 * Loads a mapped-ram file into any QEMU that waits with `-incoming defer`: mapram plays the file to it as an ordinary
 * migration stream, plain or with multifd channels, over a descriptor of its own or a private Unix socket.
 */

import { channelBlock } from '../channels/channel-block.js';
import { MapramError } from '../errors.js';
import { MigrationSettings } from '../guest/qemu/migration-settings.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import { releaseFiles } from '../io/file/open-file.js';
import { shutdownSocket } from '../io/socket/unix-socket.js';
import type { MappedRamImage } from '../mapped-ram/image.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import { type StreamDevices, type SyncMarks, streamOfSaved } from '../stream/stream-frame.js';
import { ThreadFailedError } from '../threads/thread-protocol.js';
import { StreamOutput } from './outputs/stream-output.js';
import type { StreamConnections } from './receiver/stream-connections.js';
import { openRouteTo, type StreamRoute } from './receiver/stream-route.js';

export interface StreamLoadOptions {
  /** Of a file. */
  image: MappedRamImage;
  /** Multifd channels; 0 for a plain stream. */
  channels: number;
  /** Whether the file is read with O_DIRECT. */
  directIo: boolean;
  /** Whether a failure ends QEMU, as it does by default and always before 9.1; false by default. */
  exitOnError?: boolean;
  signal: AbortSignal;
  /** Called once QEMU waits for the stream. */
  onListening?: () => void;
  onProgress?: (event: ProgressEvent) => void;
}

const PROGRESS_MS = 200;
/** How long QEMU may take to notice that sending has failed. */
const PATIENCE_MS = 3000;

/**
 * Resolves when QEMU has loaded everything.
 *
 * @throws MapramError with QEMU's reason where it tells one; QEMU is then of no use any more
 */
export async function loadByStream(vm: QemuVm, options: StreamLoadOptions): Promise<void> {
  const { image, channels, signal, exitOnError = false } = options;
  const settings = await MigrationSettings.apply(vm, channels > 0 ? ['multifd', 'events'] : ['events'], {
    'tls-creds': '',
    ...(channels > 0 ? { 'multifd-channels': channels, 'multifd-compression': 'none' } : {}),
  });
  await using route = await openRouteTo(vm, channels + 1);
  const output = await outputOf(vm, route, options);
  let ticker: NodeJS.Timeout | undefined;
  const giveUp = () => output.abort();
  try {
    signal.throwIfAborted();
    await vm.migrateIncoming(route.uri, { exitOnError });
    options.onListening?.();
    const { start, devices } = streamOfSaved(image);
    await output.open(start, signal);
    signal.addEventListener('abort', giveUp, { once: true });
    ticker = reportProgress(output, image, options.onProgress);
    const abandon = new AbortController();
    const waiting = AbortSignal.any([signal, abandon.signal]);
    const loaded = vm.waitForMigration(['completed'], { signal: waiting, announced: true });
    await firstFailure(sendAll(output, devices, image.path), loaded, abandon);
    await settings.restore();
  } catch (error) {
    // What has failed then is a consequence.
    signal.throwIfAborted();
    throw error;
  } finally {
    clearInterval(ticker);
    signal.removeEventListener('abort', giveUp);
    output.abort();
    await output.close();
  }
}

async function outputOf(
  vm: QemuVm,
  route: StreamRoute,
  { image, channels, directIo: direct }: StreamLoadOptions,
): Promise<StreamOutput> {
  const { path, descriptor: fd } = image;
  if (fd === undefined) throw new MapramError('USAGE', `sending ${path}: it is not a file`);
  return new StreamOutput({
    endpoint: {
      name: `the VM at ${vm.address}`,
      // Open until QEMU has loaded everything.
      connect: async (signal) => heldSockets(await route.connect(signal)),
      dispose: async () => {},
    },
    channels,
    marks: await syncMarks(vm, channels),
    zeroPages: 'main',
    compression: { method: 'none', level: 0 },
    switchoverStart: vm.has('switchoverStart'),
    image: { kind: 'image', path, fd, direct, blocks: image.blocks.map((block) => channelBlock(block)) },
    uuid: await vm.uuid(),
  });
}

function heldSockets(fds: readonly number[]): StreamConnections {
  return {
    kind: 'socket',
    fds,
    finish: async () => {},
    abort: () => fds.forEach(shutdownSocket),
    close: async () => releaseFiles(fds),
  };
}

async function sendAll(output: StreamOutput, devices: StreamDevices, path: string): Promise<void> {
  try {
    await output.writeStart();
    await output.transfer();
    await output.writePart();
    await output.writeDevices(devices);
  } catch (error) {
    const { code, message, cause } = error as MapramError;
    if (code !== 'MIGRATION') throw error;
    throw new MapramError(code, `sending ${path}: ${message}`, { path, cause });
  }
}

/**
 * QEMU sees the end of the stream before it has loaded it, and a refusal of QEMU's breaks the connections: what QEMU says
 * counts more. But it may never say anything: see `QEMU_FAULTS.endedChannel`.
 */
async function firstFailure(
  sent: Promise<void>,
  loaded: Promise<unknown>,
  abandon: AbortController,
): Promise<void> {
  let patience: NodeJS.Timeout | undefined;
  sent.catch((reason) => {
    patience = setTimeout(() => abandon.abort(reason), PATIENCE_MS);
  });
  const [sending, loading] = await Promise.allSettled([sent, loaded]);
  clearTimeout(patience);
  if (loading.status === 'rejected') {
    if (sending.status === 'rejected' && !isConsequence(sending.reason)) throw sending.reason;
    throw loading.reason;
  }
  if (sending.status === 'rejected') throw sending.reason;
}

/** Whether sending failed because QEMU had gone away from the socket. */
function isConsequence(error: unknown): boolean {
  const { cause } = error as Error;
  const { errno } = cause instanceof ThreadFailedError ? cause.failure : {};
  return errno === 'EPIPE' || errno === 'ECONNRESET';
}

/** By QEMU's machine property `multifd-flush-after-each-section`, which machine types up to 8.0 have on. */
async function syncMarks(vm: QemuVm, channels: number): Promise<SyncMarks> {
  if (channels === 0) return 'none';
  if (!vm.has('multifdFlushesByPass')) return 'sections';
  const [, major, minor] = /-(\d+)\.(\d+)$/.exec(await vm.machine()) ?? [];
  // Machines without a version (microvm) go with QEMU's newest.
  if (major === undefined) return 'flushes';
  return Number(major) < 8 || (Number(major) === 8 && Number(minor) === 0) ? 'sections' : 'flushes';
}

function reportProgress(
  output: StreamOutput,
  image: MappedRamImage,
  onProgress: ((event: ProgressEvent) => void) | undefined,
): NodeJS.Timeout | undefined {
  if (!onProgress) return undefined;
  const meter = new ProgressMeter();
  const pages = image.blocks.reduce((total, { bitmap }) => total + bitmap.count(), 0);
  return setInterval(() => {
    const { normalPages, channels } = output.counters();
    const bytes = normalPages * image.pageSize;
    onProgress(
      meter.report('RAM', { bytes, totalBytes: pages * image.pageSize, pages: normalPages, channels }),
    );
  }, PROGRESS_MS);
}
