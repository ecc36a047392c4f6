/** Saves a VM into a mapped-ram file: what `mapram save` does. */

import type { KeyObject } from 'node:crypto';
import { fstatSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { MAXIMUM_FILE_CHANNELS, prepareFileChannels } from '../../channels/file/file-channels.js';
import { assertOptions } from '../../checked-options.js';
import type { DigestAlgorithm } from '../../checksums/chunk-hash.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import { connectVm, orCancelled } from '../../guest/qemu/connect-vm.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { probeDirectIo } from '../../io/file/direct-io-probe.js';
import { allocatedBytes, freeSpace } from '../../io/file/file-space.js';
import { descriptorPath } from '../../io/file/open-file.js';
import { type Manifest, parseManifest } from '../../manifest/manifest.js';
import type { SealOptions } from '../../manifest/seal.js';
import { readSigningKey } from '../../manifest/signature.js';
import { liveParameters } from '../../migration/live-limits.js';
import { MigrationFile } from '../../migration/migration-file.js';
import { OutgoingMigration, type OutgoingResult } from '../../migration/outgoing.js';
import { saveNatively } from '../../migration/qemu-native-save.js';
import { whyNotConnectable } from '../../migration/receiver/stream-route.js';
import { chooseMethod, type MethodWishes, type SaveMethod } from '../../migration/save-method.js';
import { atStateTaken, factsOfGuest, factsOfQemu } from '../../migration/saved-facts.js';
import { type Seal, sealFile, sealing } from '../../migration/sealed-save.js';
import { BaseSnapshot } from '../../migration/sources/base-snapshot.js';
import { GuestSource } from '../../migration/sources/guest-source.js';
import type { OutgoingSource } from '../../migration/sources/migration-source.js';
import { type CopiedFigures, QemuCopiedSource } from '../../migration/sources/qemu-copied-source.js';
import { qemuSource } from '../../migration/sources/qemu-source.js';
import type { QemuStreamSourceOptions, StreamMode } from '../../migration/sources/qemu-stream-source.js';
import { defaultCapabilities } from '../../options/migration-capabilities.js';
import { defaultParameters } from '../../options/migration-parameters.js';
import { qemuProfile } from '../../options/qemu-profile.js';
import { silenceWarning } from '../../qmp/qmp-client.js';
import type { Bytes, Count, Milliseconds } from '../../units.js';
import { pluggedWarning } from '../checks/plugged-devices.js';
import { channelsFor, defaultChannels } from '../files/channel-numbers.js';
import { chooseDirectIo, type DirectIoChoice, unlessSlow } from '../files/direct-io-choice.js';
import { failureToWrite } from '../files/file-errors.js';
import { runOperation } from '../files/operation.js';
import { partPathOf, TargetFile } from '../files/target-file.js';
import { tryDisk } from '../files/target-speed.js';
import { assertNotAbandoned, SaveGuard } from '../guard/save-guard.js';
import { changedDisks } from '../resume/recorded-launch.js';
import { recordRunState, sleepsIn } from './recorded-run-state.js';
import { assertSensible, type SaveOptions, SaveOptionsSchema } from './save-options.js';
import { memoryInUse } from './space-needed.js';
import { StallWatch } from './stall-watch.js';
import { streamChannels } from './stream-channels.js';

export type { SaveOptions } from './save-options.js';

/** Bytes and milliseconds. */
export interface SaveResult {
  file: string;
  method: SaveMethod | 'builtin';
  methodReason: string;
  /** Whether O_DIRECT was really used, and why or why not. */
  directIo: boolean;
  directIoReason: string;
  channels: Count;
  /** Why so many. */
  channelsReason: string;
  ramBytes: Bytes;
  normalPages: Count;
  /** Pages that are zero and take no place. */
  duplicatePages: Count;
  normalBytes: Bytes;
  fileBytes: Bytes;
  /** What the file takes on disk: less than `fileBytes`, since zero pages are holes. */
  allocatedBytes: Bytes;
  totalTimeMs: Milliseconds;
  /** How long the guest did not run. */
  downtimeMs: Milliseconds;
  /** Data and name are on the disk. */
  synced: boolean;
  /** Identity of this save, a UUID. */
  id: string;
  /** How pages were summed, if they were. */
  checksums: DigestAlgorithm | 'none';
  signed: boolean;
  /** Absent for the builtin guest. */
  qemuVersion?: string;
  /** Of an incremental save: the file it builds upon, and what is new. */
  base?: CopiedFigures;
  /** State of the VM afterwards. */
  runState: string;
}

/**
 * Saves `vm` into `file`. The file appears under its name only when it is complete and on disk; until then, and if
 * anything fails, a previous file of that name stays and the VM goes on as before.
 *
 * @throws MapramError of any code; see the code for what was wrong
 */
export async function save(options: SaveOptions): Promise<SaveResult> {
  assertOptions('save', SaveOptionsSchema, options);
  const { file } = options;
  return runOperation(`saving to ${file}`, file, options, async (guarded) => {
    try {
      return await saveChecked(guarded);
    } catch (error) {
      throw failureToWrite(error, file, placesOf(file).partPath);
    }
  });
}

async function saveChecked(options: SaveOptions): Promise<SaveResult> {
  const startedAt = performance.now();
  const {
    vm: vmOption,
    file,
    force = false,
    directIo = 'auto',
    signal = new AbortController().signal,
  } = options;
  signal.throwIfAborted();
  assertSensible(options);
  const signingKey = options.sign === undefined ? undefined : readSigningKey(options.sign);
  await using guard = vmOption instanceof BuiltinGuest ? undefined : SaveGuard.start(placesOf(file));
  using target = TargetFile.create(file, { force });
  const possible = chooseDirectIo(file, directIo, () => probeDirectIo(descriptorPath(target.fd)));
  const choice = directIo === 'auto' ? await unlessSlow(file, possible, target.fd) : possible;
  if (choice.warning !== undefined) options.onWarning?.(choice.warning);
  const algorithm: DigestAlgorithm = signingKey ? 'sha256-128' : 'xxh64';
  const checksums = options.checksums === false ? undefined : algorithm;
  const channels = typeof options.channels === 'number' ? options.channels : defaultChannels(choice.directIo);
  // They load while this process talks to the VM. QEMU's own writing, and streams, need none but for the checksums afterwards.
  if (options.method !== 'native' && options.method !== 'stream') {
    prepareFileChannels(Math.min(channels, MAXIMUM_FILE_CHANNELS), checksums);
  }
  const run: SaveRun = {
    options,
    target,
    choice,
    signal,
    channels,
    channelsReason: 'asked for',
    ...defined({ signingKey, checksums }),
  };
  if (vmOption instanceof BuiltinGuest) return await saveBuiltin(run, vmOption, startedAt);
  await using vm = await connectVm(vmOption, {
    signal,
    onSilence: silenceWarning(options.onWarning),
  });
  try {
    return await saveQemu(run, vm, guard as SaveGuard, startedAt);
  } catch (error) {
    throw orCancelled(error, vm, signal);
  } finally {
    await (guard as SaveGuard).look();
    if (vm.client.silent && vm.hasAddress)
      options.onWarning?.(
        'QEMU does not answer; the guard of this save brings the VM back as soon as it does',
      );
  }
}

/** As the guard has to know them, in another working directory. */
function placesOf(file: string): { file: string; partPath: string } {
  const absolute = path.resolve(file);
  return { file: absolute, partPath: partPathOf(absolute) };
}

interface SaveRun {
  options: SaveOptions;
  target: TargetFile;
  choice: DirectIoChoice;
  signal: AbortSignal;
  channels: number;
  channelsReason: string;
  /** What a channel writes at once; by default what is fast on most disks. */
  ioSize?: number;
  checksums?: DigestAlgorithm;
  signingKey?: KeyObject;
}

/** What both ways of saving a VM report. */
type Saved = Pick<
  SaveResult,
  | 'channels'
  | 'ramBytes'
  | 'normalPages'
  | 'duplicatePages'
  | 'normalBytes'
  | 'fileBytes'
  | 'downtimeMs'
  | 'runState'
> & {
  manifest: Manifest;
  /** Lets a guest that ran before the save run again. */
  resume(): Promise<void>;
};

/**
 * Brings the VM into its final state, given what lets it run again, and tells that state. Called as soon as memory and
 * device state are taken: the guest's downtime ends then, not when the disk is through.
 */
type Settle = (resume: () => Promise<void>) => Promise<string>;

async function saveQemu(run: SaveRun, vm: QemuVm, guard: SaveGuard, startedAt: number): Promise<SaveResult> {
  const { options, target, choice } = run;
  await assertNotAbandoned(vm);
  const runStateBefore = await vm.assertCanMigrate();
  const wasRunning = runStateBefore === 'running';
  vm.watchSleep(runStateBefore);
  await using base = await BaseSnapshot.find(vm);
  const { method, reason } = await chooseMethod(vm, methodWishes(run, runStateBefore), base);
  const memoryBytes = await memoryInUse(vm);
  await assertSpace(target, memoryBytes);
  await tune(run, memoryBytes, (method === 'shared' || method === 'incremental') && choice.directIo);
  const source =
    method === 'native' ? undefined : qemuSource(vm, method, streamWishes(run, vm, method), base);
  const settle = async (resume: () => Promise<void>) => {
    // Of a background snapshot the disks are younger than the memory: what they were before is what fits.
    if (!options.background) facts = atStateTaken(facts);
    if (wasRunning && (options.afterwards ?? 'cont') === 'cont') await resume();
    return vm.runState();
  };
  await using _ = { [Symbol.asyncDispose]: async () => source?.dispose() };
  source?.prepare?.();
  let facts = await factsOfQemu(vm, runStateBefore);
  const plugged = facts.launch && pluggedWarning(facts.launch);
  if (plugged !== undefined) options.onWarning?.(plugged);
  if (options.background) options.onWarning?.(youngerDisks(facts, options));
  await guard.watch(vm, runStateBefore);
  // Chunks that have not changed keep the digests of the base, if it has them by the same hash.
  if (method === 'incremental' && run.checksums === 'xxh64' && hashOf(base) === 'xxh64-pages')
    run.checksums = 'xxh64-pages';
  const seal = sealOf(run, () => facts);
  const watched = (method === 'shared' || method === 'stream') && !options.live && !options.background;
  const saved = source
    ? await saveThroughEngine(run, { source, settle, seal, watched })
    : await saveQemuNatively(run, vm, settle, seal);
  const result = await finish(run, saved, wasRunning);
  // The guest did not run, so there is no hurry: it does not begin to before its state is on the disk.
  if (!wasRunning && options.afterwards === 'cont') result.runState = await continueStopped(run, vm);
  if (options.afterwards === 'quit') {
    await vm.quit();
    result.runState = 'shutdown';
    noteWritesAtTheEnd(run, facts);
  } else if (vm.asleep && result.runState === 'postmigrate') options.onWarning?.(fellAsleep(vm));
  guard.settled = true;
  return {
    file: target.file,
    method,
    methodReason: reason,
    directIo: choice.directIo,
    directIoReason: choice.reason,
    channelsReason: run.channelsReason,
    ...result,
    totalTimeMs: Math.round(performance.now() - startedAt),
    synced: true,
    qemuVersion: vm.versionText,
    ...(source instanceof QemuCopiedSource ? { base: source.figures } : {}),
  };
}

/** What a background snapshot means for disks: they are not part of it, and the guest goes on writing to them. */
function youngerDisks({ launch }: Facts, { afterwards = 'cont' }: SaveOptions): string {
  const disks = (launch?.disks ?? []).filter(({ readOnly }) => !readOnly).map(({ path: name }) => name);
  const which = disks.length === 0 ? 'any disks' : disks.join(', ');
  const ends =
    afterwards === 'cont'
      ? ''
      : `; --then ${afterwards} keeps no more of the time after that moment than what is on these disks`;
  return `the guest keeps running while its memory of one moment is saved, so what it writes to ${which} afterwards is newer than the file: keep copies of that moment, or save without --background${ends}`;
}

/** QEMU closes its images when it ends, and may write to them. */
function noteWritesAtTheEnd({ options }: SaveRun, { launch }: Facts): void {
  if (launch === undefined || options.background) return;
  for (const change of changedDisks(launch.disks)) {
    options.onWarning?.(
      `${change} when QEMU ended, after the file was complete: resume it with --allow-changed-disks`,
    );
  }
}

/** @returns the state of the VM afterwards */
async function continueStopped({ options, target }: SaveRun, vm: QemuVm): Promise<string> {
  const runState = await vm.runState();
  if (runState === 'postmigrate' && (await sleepsIn(target.file, options.offset ?? 0))) {
    options.onWarning?.(fellAsleep(vm));
    return runState;
  }
  await vm.cont();
  return vm.runState();
}

/** QEMU would abort. */
function fellAsleep(vm: QemuVm): string {
  return `the guest of the VM at ${vm.address} is asleep (S3), and QEMU cannot continue it after this migration: end that QEMU, and resume the file`;
}

function hashOf(base: BaseSnapshot | undefined): DigestAlgorithm | undefined {
  const manifest = parseManifest(base?.image.manifest);
  return 'problem' in manifest ? undefined : manifest.checksums?.algorithm;
}

function methodWishes({ options, choice }: SaveRun, runState: string): MethodWishes {
  const { live = false, background = false, multifd = true, compression = 'none' } = options;
  const streamOnly = background
    ? 'a background snapshot was asked for'
    : compression !== 'none'
      ? `the compression ${compression} was asked for`
      : multifd
        ? undefined
        : 'a single connection was asked for';
  return {
    method: options.method ?? 'auto',
    live: live !== false,
    background,
    directIo: choice.directIo,
    runState,
    ...defined({ afterwards: options.afterwards, streamOnly }),
  };
}

/** How QEMU's stream is to come, where the pages come by it. */
function streamWishes(run: SaveRun, vm: QemuVm, method: SaveMethod): QemuStreamSourceOptions {
  const { options } = run;
  if (method !== 'stream') return { mode: { kind: 'stopped' }, channels: 0, returns: true };
  const channels = streamChannels(vm, options, whyNotConnectable(vm) === undefined, run.channels);
  // Neighbouring pages come by different channels: of hashes that may be used, only this one can be computed meanwhile.
  if (channels > 0 && run.checksums === 'xxh64') run.checksums = 'xxh64-pages';
  if (channels === 0) run.channelsReason = 'the stream comes through a single connection';
  const { live = false, background = false, compression = 'none' } = options;
  const mode: StreamMode = background
    ? { kind: 'background' }
    : live === false
      ? { kind: 'stopped' }
      : { kind: 'live', ...(live === true ? {} : live) };
  return { mode, channels, compression, returns: true };
}

async function saveBuiltin(run: SaveRun, guest: BuiltinGuest, startedAt: number): Promise<SaveResult> {
  const { options, target, choice } = run;
  const runStateBefore = guest.runState;
  const wasRunning = runStateBefore === 'running';
  const memoryBytes = guest.blocks.reduce((total, { fd }) => total + allocatedBytes(fd), 0);
  await assertSpace(target, memoryBytes);
  await tune(run, memoryBytes, choice.directIo);
  if (!options.live && wasRunning) await guest.stop();
  const settle = async () => {
    if (wasRunning && (options.afterwards ?? 'cont') === 'cont' && guest.runState !== 'running')
      await guest.cont();
    return guest.runState;
  };
  const facts = factsOfGuest(guest, runStateBefore);
  const saved = await saveThroughEngine(run, {
    source: new GuestSource(guest, wasRunning),
    settle,
    seal: sealOf(run, () => facts),
    watched: false,
  }).catch(async (error: unknown) => {
    if (wasRunning && guest.runState !== 'running') await guest.cont();
    throw error;
  });
  const result = await finish(run, saved, wasRunning);
  if (!wasRunning && options.afterwards === 'cont') {
    await guest.cont();
    result.runState = guest.runState;
  }
  if (options.afterwards === 'quit') await guest[Symbol.asyncDispose]();
  return {
    file: target.file,
    method: 'builtin',
    methodReason: 'the guest is in this process',
    directIo: choice.directIo,
    directIoReason: choice.reason,
    channelsReason: run.channelsReason,
    ...result,
    totalTimeMs: Math.round(performance.now() - startedAt),
    synced: true,
  };
}

/** Less is written before a trial of the disk has paid. */
const WORTH_A_TRIAL = 2 ** 30;

/**
 * Settles how many channels there are where that was left open.
 *
 * @param queuing whether they queue their writes
 */
async function tune(run: SaveRun, memoryBytes: number, queuing: boolean): Promise<void> {
  const { options, target, choice, signal } = run;
  if (typeof options.channels === 'number') return;
  if (memoryBytes < WORTH_A_TRIAL) {
    run.channels = defaultChannels(queuing);
    run.channelsReason = 'fast on most disks; too little memory for a trial';
    return;
  }
  const trial = await tryDisk(target.fd, choice.directIo, signal);
  run.channels = channelsFor(trial, queuing);
  run.ioSize = trial.ioSize;
  run.channelsReason = trial.reason;
}

/** What the kinds of VM know that goes into the manifest. */
type Facts = SealOptions['facts'];

type Finished = Omit<Saved, 'resume' | 'manifest'> &
  Pick<SaveResult, 'allocatedBytes' | 'id' | 'checksums' | 'signed'>;

async function finish(run: SaveRun, saved: Saved, wasRunning: boolean): Promise<Finished> {
  const { checksums = 'none', signingKey } = run;
  const { resume, manifest, ...figures } = saved;
  try {
    const published = await publish(run, saved);
    return { ...figures, ...published, id: manifest.id, checksums, signed: signingKey !== undefined };
  } catch (error) {
    // There is no file: a guest that was to stay stopped behind it goes on as before.
    if (wasRunning && saved.runState !== 'running') await resume().catch(() => {});
    throw error;
  }
}

function sealOf({ options, channels, checksums, signingKey }: SaveRun, facts: () => Facts): Seal {
  const { onProgress, onWarning } = options;
  return {
    facts,
    channels: Math.min(channels, MAXIMUM_FILE_CHANNELS),
    ...defined({ checksums, signingKey, onProgress, onWarning }),
  };
}

async function publish(
  { options, target, signal }: SaveRun,
  saved: Saved,
): Promise<{ allocatedBytes: number; fileBytes: number }> {
  options.onProgress?.({
    phase: 'syncing',
    bytes: saved.normalBytes,
    totalBytes: saved.normalBytes,
    pages: saved.normalPages,
    rate: 0,
  });
  signal.throwIfAborted();
  const { blocks, size } = fstatSync(target.fd);
  await target.publish();
  return { allocatedBytes: blocks * 512, fileBytes: size };
}

interface EngineSave {
  source: OutgoingSource;
  settle: Settle;
  seal: Seal;
  /** Whether a stall is noticed: the guest stands still, and pages come from the beginning. */
  watched: boolean;
}

async function saveThroughEngine(
  run: SaveRun,
  { source, settle, seal, watched }: EngineSave,
): Promise<Saved> {
  const { options, target, choice, signal, channels } = run;
  let runState = '';
  const sealed: { manifest?: Manifest } = {};
  const parameters = {
    ...defaultParameters(qemuProfile('10.0')),
    'max-bandwidth': 0,
    'direct-io': choice.directIo,
    'multifd-channels': channels,
    ...(typeof options.live === 'object' ? liveParameters(options.live) : {}),
  };
  const capabilities = { ...defaultCapabilities(), 'mapped-ram': true, multifd: true };
  using file = MigrationFile.adopt(target.partPath, target.fd, options.offset ?? 0, {
    parameters,
    capabilities,
  });
  const migration = new OutgoingMigration({
    source,
    file,
    parameters,
    capabilities,
    sync: false,
    dropBehind: choice.dropBehind === true,
    ...defined({ ioSize: run.ioSize }),
    onStateTaken: async () => {
      watch?.[Symbol.dispose]();
      runState = await settle(() => source.resume());
    },
    ...sealing(file, seal, (written) => {
      sealed.manifest = written;
    }),
  });
  if (options.onProgress) migration.on('progress', options.onProgress);
  const cancel = () => migration.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  let stalled: MapramError | undefined;
  // During other saves the guest runs.
  using watch = watched
    ? new StallWatch({
        file: target.file,
        bytes: () => migration.progress().bytes,
        onWarning: (message) => options.onWarning?.(message),
        onStalled: (error) => {
          stalled = error;
          migration.cancel();
        },
      })
    : undefined;
  let result: OutgoingResult;
  try {
    // It may have fired before there was anything to cancel.
    signal.throwIfAborted();
    result = await migration.run();
  } catch (error) {
    throw stalled ?? error;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
  const { ram } = result;
  return {
    channels: result.channels,
    ramBytes: ram.totalBytes,
    normalPages: ram.normalPages,
    duplicatePages: ram.duplicatePages,
    normalBytes: ram.normalBytes,
    fileBytes: result.fileBytes,
    downtimeMs: result.downtimeMs,
    runState,
    manifest: sealed.manifest as Manifest,
    resume: () => source.resume(),
  };
}

async function saveQemuNatively(run: SaveRun, vm: QemuVm, settle: Settle, seal: Seal): Promise<Saved> {
  const { options, target, choice, signal, channels } = run;
  const { live = false } = options;
  const { info, downtimeMs, stoppedHere, resume } = await saveNatively(vm, {
    fd: target.fd,
    // QEMU may have another working directory, and opens the path itself over TCP.
    path: realpathSync(path.dirname(target.partPath)) + path.sep + path.basename(target.partPath),
    offset: options.offset ?? 0,
    channels,
    directIo: choice.directIo,
    ...defined({ live: live === false ? undefined : live === true ? {} : live }),
    signal,
    ...defined({ onProgress: options.onProgress }),
  });
  const runState = await settle(resume);
  const { ram } = info;
  let manifest: Manifest;
  try {
    if (!ram)
      throw new MapramError(
        'QMP',
        `saving the VM at ${vm.address}: QEMU completed without telling what it wrote`,
      );
    const offset = options.offset ?? 0;
    const state = vm.asleep ? 'suspended' : 'running';
    if (stoppedHere) await recordRunState(target.fd, target.partPath, state, offset);
    const file = { name: target.partPath, mainFd: target.fd, offset, direct: choice.directIo };
    manifest = await sealFile(file, seal, { ramBytes: ram.total, signal });
  } catch (error) {
    // There is no file: a guest that was to stay stopped behind it goes on as before.
    if (runState !== 'running') await resume().catch(() => {});
    throw error;
  }
  return {
    channels,
    ramBytes: ram.total,
    normalPages: ram.normal,
    duplicatePages: ram.duplicate,
    normalBytes: ram['normal-bytes'],
    fileBytes: fstatSync(target.fd).size,
    downtimeMs,
    runState,
    manifest,
    resume,
  };
}

/** Headers, bitmaps and device state: well below this for any machine seen. */
const OVERHEAD_BYTES = 8 << 20;

async function assertSpace(target: TargetFile, memoryBytes: number): Promise<void> {
  const needed = memoryBytes + OVERHEAD_BYTES;
  const free = freeSpace(path.dirname(target.file));
  if (free < needed) {
    const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
    throw new MapramError(
      'NO_SPACE',
      `saving to ${target.file}: up to ${mib(needed)} are needed and ${mib(free)} are free; make room or choose another directory`,
      { path: target.file },
    );
  }
}
