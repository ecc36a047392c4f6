/** Loads a mapped-ram file into a waiting VM: what `mapram restore` does. */

import { realpathSync } from 'node:fs';
import * as v from 'valibot';
import { MAXIMUM_FILE_CHANNELS, prepareFileChannels } from '../../channels/file/file-channels.js';
import { MAXIMUM_SOCKET_CHANNELS } from '../../channels/socket/socket-channel-receiver.js';
import { assertOptions, flag, oneOf, optionsOf, path } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import { connectVm, orCancelled, type QemuReference } from '../../guest/qemu/connect-vm.js';
import { type LentFdset, lendFile } from '../../guest/qemu/lent-fdset.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import { nameOfQemuWithout, releaseOf } from '../../guest/qemu/qemu-features.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { openSharedRam, type SharedRam } from '../../guest/qemu/shared-ram.js';
import type { DirectIoMode } from '../../io/file/open-direct.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { bytesReadBy } from '../../io/process/process-reads.js';
import { commandLineOf } from '../../launch/command-line.js';
import { readPublicKey } from '../../manifest/signature.js';
import { MappedRamImage } from '../../mapped-ram/image.js';
import { IncomingMigration } from '../../migration/incoming.js';
import { MigrationFile } from '../../migration/migration-file.js';
import { loadByStream } from '../../migration/qemu-stream-load.js';
import { whyNotConnectable } from '../../migration/receiver/stream-route.js';
import { defaultCapabilities } from '../../options/migration-capabilities.js';
import { defaultParameters } from '../../options/migration-parameters.js';
import { qemuProfile } from '../../options/qemu-profile.js';
import { ProgressMeter } from '../../progress-meter.js';
import { silenceWarning } from '../../qmp/qmp-client.js';
import { runsOnceLoaded } from '../../stream/global-state.js';
import type { Count, Milliseconds } from '../../units.js';
import { assertFitsVm } from '../checks/fits-vm.js';
import { LoadedMemory, MEMORY_CHECKS, type MemoryCheck } from '../checks/memory-after-load.js';
import { replacedContents } from '../checks/memory-file-contents.js';
import { memoryFilesOf } from '../checks/memory-files-of-vm.js';
import { missingPlugged } from '../checks/plugged-devices.js';
import { staleBlock } from '../checks/stale-memory.js';
import { DEFAULT_CHANNELS, defaultChannels } from '../files/channel-numbers.js';
import { CheckedFile } from '../files/checked-file.js';
import { chooseDirectIo, type DirectIoChoice } from '../files/direct-io-choice.js';
import type { FileOptions } from '../files/file-options.js';
import { runOperation } from '../files/operation.js';
import { channels, directIo, offset, participation } from '../files/option-kinds.js';
import { type VmReference, vmOption } from '../files/vm-option.js';
import { clockSetter, savedAt } from '../resume/guest-clock.js';
import { recordedLaunch } from '../resume/recorded-launch.js';
import { localFile } from '../store/local-file.js';
import { assertVerified } from '../verify/verify.js';
import { loadIntoSharedRam } from './shared-load.js';
import { unreadablePlace } from './unreadable-place.js';

/**
 * - `shared`: mapram reads the pages into the RAM of a VM whose memory is shared; QEMU gets the device state.
 * - `native`: QEMU 9.0 or later reads the file.
 * - `stream`: mapram reads the file and QEMU takes a stream. Any QEMU, any memory.
 */
export const LOAD_METHODS = ['shared', 'native', 'stream'] as const;

export type LoadMethod = (typeof LOAD_METHODS)[number];

export interface RestoreOptions extends FileOptions {
  /** The QMP socket of a QEMU started with `-incoming defer`, a connection to one, or a fresh guest of this process that waits. */
  vm: VmReference;
  directIo?: DirectIoMode | undefined;
  channels?: number | undefined;
  /** `auto`, the default, takes the first of the methods that works with the VM. */
  method?: LoadMethod | 'auto' | undefined;
  /**
   * Whether a stream goes through `channels` multifd channels, the default wherever QEMU can be connected to, or through one
   * connection.
   */
  multifd?: boolean | undefined;
  /** Let the VM run afterwards, also when the file was saved from a paused one. */
  cont?: boolean | undefined;
  /** Set the guest's clock to the host's time through its QEMU guest agent, once it runs; a warning says where that fails. */
  setClock?: boolean | undefined;
  /**
   * Before the guest runs, compare its memory with the file: a `sample` of up to 2048 pages by default, or `all`. Where QEMU's memory may
   * not be read, a sample is left out.
   */
  checkMemory?: MemoryCheck | undefined;
  /** Replace, with a warning, UEFI variables and persistent memory in the VM's files by other ones of the snapshot. */
  allowChangedDisks?: boolean | undefined;
  /** Load with a warning, although the VM's CPU lacks what the saved one had. */
  allowCpuMismatch?: boolean | undefined;
  /** Hold all pages against their checksums before anything is loaded; structure, device state and bitmaps always are. */
  verify?: boolean | undefined;
  /** Path of an Ed25519 public key in PEM form, by whose private key the file must be signed; implies `verify`. */
  requireSignature?: string | undefined;
  onWarning?: ((message: string) => void) | undefined;
}

const RestoreOptionsSchema = optionsOf<RestoreOptions>({
  file: path,
  vm: vmOption,
  directIo,
  channels,
  method: v.optional(oneOf(['auto', ...LOAD_METHODS])),
  multifd: flag,
  cont: flag,
  setClock: flag,
  checkMemory: v.optional(oneOf(MEMORY_CHECKS)),
  allowCpuMismatch: flag,
  allowChangedDisks: flag,
  verify: flag,
  requireSignature: v.optional(path),
  offset,
  ...participation,
});

export interface RestoreResult {
  file: string;
  method: LoadMethod | 'builtin';
  methodReason: string;
  totalTimeMs: Milliseconds;
  directIo: boolean;
  directIoReason: string;
  channels: Count;
  normalPages: Count;
  /** State of the VM afterwards. */
  runState: string;
  /** When it was saved, ISO 8601 in UTC, where the file says so: the guest's clock continues from there. */
  savedAt?: string;
  /** Whether the guest's clock was set to the host's time, where that was asked for. */
  clockSet?: boolean;
  /** How many pages of the VM's memory were compared with the file before the guest ran; absent where none were. */
  checkedPages?: Count;
}

/** Between two reports of progress. */
const PROGRESS_MS = 100;

/**
 * Loads `file` into `vm`. File and VM are checked first; nothing reaches QEMU that does not fit.
 *
 * @throws MapramError `FORMAT` for a file that is damaged, unfinished or something else; `VM` when it does not fit; `UNTRUSTED` where a
 *   signature is required and others may write to the file
 */
export async function restore(options: RestoreOptions): Promise<RestoreResult> {
  assertOptions('restore', RestoreOptionsSchema, options);
  return runOperation(`loading ${options.file}`, options.file, options, restoreChecked);
}

async function restoreChecked(options: RestoreOptions): Promise<RestoreResult> {
  const startedAt = performance.now();
  const { vm: target, directIo = 'auto', signal = new AbortController().signal } = options;
  signal.throwIfAborted();
  const file = await localFile(options.file, { signal, onProgress: options.onProgress });
  const requiredKey =
    options.requireSignature === undefined ? undefined : readPublicKey(options.requireSignature);
  await using image = await MappedRamImage.open(file, { offset: options.offset });
  const choice = chooseDirectIo(file, directIo);
  if (choice.warning !== undefined) options.onWarning?.(choice.warning);
  const channels = options.channels ?? DEFAULT_CHANNELS;
  const checked = CheckedFile.of(image);
  if (requiredKey) checked.assertOnlyOwn('loading');
  // They load while the file is checked and the VM is asked. Into memory that is not shared QEMU loads itself, or gets a stream.
  const mayBeShared =
    !(target instanceof BuiltinGuest) && ['auto', 'shared'].includes(options.method ?? 'auto');
  const memoryChannels = Math.min(
    options.channels ?? defaultChannels(choice.directIo),
    MAXIMUM_FILE_CHANNELS,
  );
  if (mayBeShared) prepareFileChannels(memoryChannels);
  await assertVerified(image, {
    contents: options.verify === true,
    ...defined({ requiredKey }),
    direct: choice.directIo,
    channels,
    signal,
    ...defined({ onProgress: options.onProgress }),
  });
  const run: RestoreRun = { options, image, checked, choice, signal, channels, memoryChannels };
  const result =
    target instanceof BuiltinGuest ? await restoreBuiltin(run, target) : await restoreQemu(run, target);
  checked.assertUnchanged('loading');
  const saved = savedAt(image);
  return {
    file,
    ...defined({ savedAt: saved }),
    directIo: choice.directIo,
    directIoReason: choice.reason,
    ...result,
    totalTimeMs: Math.round(performance.now() - startedAt),
  };
}

interface RestoreRun {
  options: RestoreOptions;
  image: MappedRamImage;
  checked: CheckedFile;
  choice: DirectIoChoice;
  signal: AbortSignal;
  /** Of QEMU, or of a stream to it. */
  channels: number;
  /** Into shared memory. */
  memoryChannels: number;
}

type Loaded = Pick<
  RestoreResult,
  'method' | 'methodReason' | 'channels' | 'normalPages' | 'runState' | 'clockSet' | 'checkedPages'
>;

async function restoreBuiltin(
  { options, choice, memoryChannels, signal, image, checked }: RestoreRun,
  guest: BuiltinGuest,
): Promise<Loaded> {
  if (options.setClock)
    throw new MapramError(
      'USAGE',
      `loading ${options.file}: the built-in guest has no agent to set its clock`,
    );
  const parameters = {
    ...defaultParameters(qemuProfile('10.0')),
    'direct-io': choice.directIo,
    'multifd-channels': memoryChannels,
  };
  const capabilities = { ...defaultCapabilities(), 'mapped-ram': true, multifd: true };
  using channelFile = checked.open(choice.directIo);
  const { offset } = image.container;
  using file = MigrationFile.fromDescriptors(
    options.file,
    checked.fd,
    channelFile.fd,
    choice.directIo,
    offset,
  );
  const migration = new IncomingMigration({ guest, file, parameters, capabilities });
  if (options.onProgress) migration.on('progress', options.onProgress);
  const cancel = () => migration.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    // It may have fired before there was anything to cancel.
    signal.throwIfAborted();
    const { channels: used, normalPages } = await migration.run();
    if (options.cont) await guest.cont();
    return {
      method: 'builtin',
      methodReason: 'the guest is in this process',
      channels: used,
      normalPages,
      runState: guest.runState,
    };
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

async function restoreQemu(run: RestoreRun, reference: QemuReference): Promise<Loaded> {
  const { options, signal } = run;
  await using vm = await connectVm(reference, { signal, onSilence: silenceWarning(options.onWarning) });
  try {
    return await restoreInto(vm, run);
  } catch (error) {
    throw orCancelled(error, vm, signal);
  }
}

async function restoreInto(vm: QemuVm, run: RestoreRun): Promise<Loaded> {
  const { options, image, signal } = run;
  await assertWaiting(vm);
  const recorded = recordedLaunch(image);
  const plugged = recorded && (await missingPlugged(vm, recorded));
  if (plugged !== undefined) options.onWarning?.(plugged);
  await assertFitsVm(image, vm, options);
  const setClock = options.setClock ? await clockSetter(vm, vm.peerPid(), options.onWarning) : undefined;
  const replaced = await replacedContents(image, await memoryFilesOf(vm));
  if (replaced.length > 0 && !options.allowChangedDisks)
    throw refusesToReplace(options.file, vm.address, replaced);
  for (const change of replaced) options.onWarning?.(change);
  const memory = await LoadedMemory.prepare(vm, image, options.checkMemory ?? 'sample');
  const held = memory !== undefined && runsByItself(vm, image);
  if (held) vm.holdAfterLoad();
  using ram = await writableRam(vm, options);
  const { method, reason } = await chooseLoadMethod(vm, run, ram);
  let channels: number;
  try {
    channels =
      method === 'shared'
        ? await loadShared(run, vm, ram)
        : method === 'native'
          ? await loadNatively(run, vm)
          : await loadStream(run, vm);
  } catch (error) {
    if (signal.aborted)
      throw new MapramError('CANCELLED', `loading ${options.file}: cancelled`, { path: options.file });
    const unreadable = vm.client.closed ? await unreadablePlace(image, signal) : undefined;
    if (unreadable !== undefined) throw unreadable;
    // The file could not be read; QEMU has seen nothing of it yet.
    if (method === 'shared' && error instanceof MapramError && ['IO', 'FORMAT'].includes(error.code))
      throw error;
    if (error instanceof MapramError && error.code === 'IO' && error.path === image.path)
      throw new MapramError(
        'IO',
        `loading into the VM at ${vm.address}: ${error.message}; QEMU has a part of the memory and must be started anew`,
        { path: image.path, ...defined({ offset: error.offset }), cause: error },
      );
    throw new MapramError(
      'MIGRATION',
      `loading ${options.file} into the VM at ${vm.address}: ${(error as Error).message} (QEMU writes the exact reason to its stderr; it must be started anew)`,
      { path: options.file, cause: error },
    );
  }
  const checked = await memory?.assertAsSaved(signal);
  if ((held || options.cont) && (await vm.runState()) !== 'running') await vm.cont();
  const runState = await vm.runState();
  const clockSet = await setClock?.(runState, signal);
  return {
    method,
    methodReason: reason,
    channels,
    normalPages: storedPages(image),
    runState,
    ...defined({ clockSet, checkedPages: checked?.checkedPages }),
  };
}

function refusesToReplace(file: string, address: string, changes: readonly string[]): MapramError {
  return new MapramError(
    'VM',
    `loading ${file} into the VM at ${address}: ${changes.join('; ')}; use --allow-changed-disks to load it all the same, or give the VM a copy of the file as it was`,
    { path: file },
  );
}

/** Whether QEMU would let the guest run as soon as it is loaded. */
function runsByItself(vm: QemuVm, image: MappedRamImage): boolean {
  const pid = vm.peerPid();
  const stopped = pid !== undefined && commandLineOf(pid)?.some(({ name }) => name === 'S');
  return !stopped && runsOnceLoaded(image.tail.sections);
}

/** QEMU reads the file itself. Returns the number of channels. */
async function loadNatively(run: RestoreRun, vm: QemuVm): Promise<number> {
  const { image, checked, choice, signal, channels } = run;
  const withDirectIo = vm.has('directIo');
  const settings = await MigrationSettings.apply(vm, ['mapped-ram', 'multifd', 'events'], {
    'multifd-channels': channels,
    'multifd-compression': 'none',
    'tls-creds': '',
    ...defined({ 'direct-io': withDirectIo ? choice.directIo : undefined }),
  });
  await using source = await openSource(vm, checked, withDirectIo && choice.directIo);
  const { offset } = image.container;
  signal.throwIfAborted();
  checked.assertUnchanged('loading');
  await vm.migrateIncoming(offset === 0 ? `file:${source.path}` : `file:${source.path},offset=${offset}`);
  using _ = reportReading(run, vm);
  await vm.waitForMigration(['completed'], { signal });
  await settings.restore();
  return channels;
}

/** QEMU answers nothing while it loads; the kernel tells how much it has read. */
function reportReading({ image, options }: RestoreRun, vm: QemuVm): Disposable {
  const { onProgress } = options;
  const pid = vm.peerPid();
  const before = pid === undefined ? undefined : bytesReadBy(pid);
  if (onProgress === undefined || pid === undefined || before === undefined)
    return { [Symbol.dispose]: () => {} };
  const meter = new ProgressMeter();
  const totalBytes = storedPages(image) * image.pageSize;
  const timer = setInterval(() => {
    const bytes = Math.min(totalBytes, (bytesReadBy(pid) ?? before) - before);
    const pages = Math.floor(bytes / image.pageSize);
    onProgress(meter.report('RAM', { bytes, totalBytes, pages, channels: [] }));
  }, PROGRESS_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function storedPages({ blocks }: MappedRamImage): number {
  return blocks.reduce((total, { bitmap }) => total + bitmap.count(), 0);
}

/** mapram reads the file and plays it as a stream. Returns the number of channels. */
async function loadStream(
  { options, image, choice, signal, channels }: RestoreRun,
  vm: QemuVm,
): Promise<number> {
  const {
    multifd = typeof options.channels === 'number' || whyNotConnectable(vm) === undefined,
    onProgress,
  } = options;
  const streamChannels = multifd ? Math.min(channels, MAXIMUM_SOCKET_CHANNELS) : 0;
  await loadByStream(vm, {
    image,
    channels: streamChannels,
    directIo: choice.directIo,
    signal,
    ...defined({ onProgress }),
  });
  return streamChannels || 1;
}

/** mapram reads the file into the VM's memory. Returns the number of channels. */
async function loadShared(
  { options, image, checked, choice, signal, memoryChannels }: RestoreRun,
  vm: QemuVm,
  ram: SharedRam,
): Promise<number> {
  await loadIntoSharedRam(vm, ram, {
    image,
    checked,
    direct: choice.directIo,
    channels: memoryChannels,
    signal,
    ...defined({ onProgress: options.onProgress }),
  });
  return memoryChannels;
}

/** Closes what it opened when it is disposed of. */
type WritableRam = SharedRam & { problem?: string } & Disposable;

/** The VM's shared memory, where it can be written to and the method allows. */
async function writableRam(vm: QemuVm, { method = 'auto' }: RestoreOptions): Promise<WritableRam> {
  const ram: SharedRam = { opened: [], missing: [] };
  const dispose = { [Symbol.dispose]: () => releaseFiles(ram.opened.splice(0).map(({ fd }) => fd)) };
  const pid = vm.peerPid();
  if (method !== 'auto' && method !== 'shared') return { ...ram, ...dispose };
  if (pid === undefined || !vm.client.canPassDescriptors)
    return { ...ram, ...dispose, problem: 'its process cannot be told from here' };
  try {
    Object.assign(ram, await openSharedRam(vm, pid, 'load'));
    return { ...ram, ...dispose };
  } catch (error) {
    return { ...ram, ...dispose, problem: errorReason(error) };
  }
}

/** Pages of blocks that are not shared come in a stream that is made in memory: by default not more than this. */
const STREAM_BYTES = 256 << 20;

function whyNotShared(
  { blocks }: MappedRamImage,
  { opened, problem }: WritableRam,
  asked: boolean,
): string | undefined {
  if (problem !== undefined) return problem;
  if (opened.length === 0)
    return 'none of its memory is shared (memory-backend-file or -memfd with share=on)';
  if (asked) return undefined;
  const others = blocks
    .filter(({ idstr }) => !opened.some((block) => block.idstr === idstr))
    .map(({ idstr, bitmap, pageSize }) => ({ idstr, bytes: bitmap.count() * pageSize }))
    .toSorted((a, b) => b.bytes - a.bytes);
  const bytes = others.reduce((total, other) => total + other.bytes, 0);
  return bytes > STREAM_BYTES ? `its RAM block ${others[0]?.idstr} is not shared` : undefined;
}

/**
 * Why QEMU must not read the file itself: pages that are zero in the file would keep what the VM's memory holds.
 *
 * Where its process cannot be looked into there is none, but a warning if its memory is a file.
 */
async function whyNotFresh(vm: QemuVm, { image, options }: RestoreRun): Promise<string | undefined> {
  if (vm.has('clearsZeroPages')) return undefined;
  const pid = vm.peerPid();
  try {
    if (pid === undefined)
      throw new MapramError('IO', 'looking at the memory of QEMU: its process is not on this host');
    const stale = await staleBlock(vm, pid, image);
    return stale === undefined
      ? undefined
      : `RAM block ${stale} is not zero where the file has zero pages, which QEMU ${vm.versionText} would leave so`;
  } catch (error) {
    if (!(error instanceof MapramError) || error.code !== 'IO') throw error;
    const objects = await vm.client.execute('qom-list', { path: '/objects' });
    if (!objects.some(({ type }) => type.startsWith('child<memory-backend-file'))) return undefined;
    options.onWarning?.(
      `whether the memory of the VM is fresh cannot be told (${error.message}): QEMU ${vm.versionText} leaves old contents in pages that are zero in the file; use --method stream for memory that has been used before`,
    );
    return undefined;
  }
}

async function chooseLoadMethod(
  vm: QemuVm,
  run: RestoreRun,
  ram: WritableRam,
): Promise<{ method: LoadMethod; reason: string }> {
  const { file, method = 'auto', multifd = true } = run.options;
  if (method === 'stream') return { method, reason: 'asked for' };
  if (method === 'auto' && !multifd) return { method: 'stream', reason: 'a single connection was asked for' };
  const unsupported = (problem: string) =>
    new MapramError(
      'UNSUPPORTED',
      `loading ${file} with --method ${method}: ${problem}; use --method stream`,
      {
        path: vm.address,
      },
    );
  if (method !== 'native') {
    const problem = whyNotShared(run.image, ram, method === 'shared');
    if (problem === undefined) {
      const reason =
        method === 'shared' ? 'asked for' : "the VM's memory is shared, so that mapram can fill it";
      return { method: 'shared', reason };
    }
    if (method === 'shared') throw unsupported(problem);
  }
  const problem = vm.has('mappedRam')
    ? await whyNotFresh(vm, run)
    : `${nameOfQemuWithout(vm, 'mappedRam')} cannot read mapped-ram files (${releaseOf('mappedRam')} can)`;
  if (problem === undefined) {
    const reason = method === 'native' ? 'asked for' : `QEMU ${vm.versionText} reads mapped-ram files`;
    return { method: 'native', reason };
  }
  if (method === 'native') throw unsupported(problem);
  return { method: 'stream', reason: problem };
}

async function assertWaiting(vm: QemuVm): Promise<void> {
  const runState = await vm.runState();
  const { status } = await vm.migrationInfo();
  if (runState !== 'inmigrate') {
    throw new MapramError(
      'VM',
      `loading into the VM at ${vm.address}: it is ${runState} and does not wait for a migration; start QEMU with -incoming defer`,
      {
        path: vm.address,
      },
    );
  }
  if (status !== 'none') {
    throw new MapramError(
      'BUSY',
      `loading into the VM at ${vm.address}: an incoming migration is in state ${status} already; start QEMU anew with -incoming defer`,
      {
        path: vm.address,
      },
    );
  }
}

/** As when saving: QEMU gets descriptors where it can, and the path otherwise. */
async function openSource(vm: QemuVm, checked: CheckedFile, directIo: boolean): Promise<LentFdset> {
  const path = realpathSync(checked.path);
  using buffered = checked.open(false);
  if (!directIo) return await lendFile(vm, path, [buffered.fd]);
  using direct = checked.open(true);
  return await lendFile(vm, path, [buffered.fd, direct.fd]);
}
