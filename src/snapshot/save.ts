/** Saves a VM into a mapped-ram file: what `mapram save` does. */
import { fstatSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { MapramError } from '../errors.js';
import type { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import { QemuVm } from '../guest/qemu/qemu-vm.js';
import { probeDirectIo } from '../io/direct-io-probe.js';
import { allocatedBytes, freeSpace } from '../io/file-space.js';
import type { DirectIoMode } from '../io/open-direct.js';
import { GuestSource } from '../migration/guest-source.js';
import { MigrationFile } from '../migration/migration-file.js';
import { OutgoingMigration, type OutgoingResult } from '../migration/outgoing.js';
import { saveNatively } from '../migration/qemu-native-save.js';
import { QemuSharedSource } from '../migration/qemu-shared-source.js';
import type { OutgoingSource } from '../migration/source.js';
import { defaultCapabilities } from '../options/migration-capabilities.js';
import { defaultParameters } from '../options/migration-parameters.js';
import { qemuProfile } from '../options/qemu-profile.js';
import type { ProgressEvent } from '../progress.js';
import { chooseDirectIo, type DirectIoChoice } from './direct-io-choice.js';
import { recordRunState } from './recorded-run-state.js';
import { chooseMethod, type SaveMethod } from './save-method.js';
import { memoryInUse } from './space-needed.js';
import { TargetFile } from './target-file.js';

export interface SaveOptions {
  /** A QMP socket (`PATH`, `unix:PATH`, `tcp:HOST:PORT`), or a guest of this process. */
  vm: string | BuiltinGuest;
  file: string;
  /** Whether pages bypass the page cache; `auto`, the default, does where the file system allows. */
  directIo?: DirectIoMode;
  /** Threads that write pages, 1 to 255 of which 16 are used at most; 4 by default. */
  channels?: number;
  method?: SaveMethod | 'auto';
  /** The guest runs on while its RAM is copied and stops only for the rest. */
  live?: boolean;
  /** What becomes of the VM. By default it is brought back to the state it was in. */
  then?: 'cont' | 'stop' | 'quit';
  /** Replace an existing file, once the new one is complete. */
  force?: boolean;
  /** Where in the file the stream starts; 0 by default. */
  offset?: number;
  signal?: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
  onWarning?: (message: string) => void;
}

/** Bytes and milliseconds. */
export interface SaveResult {
  file: string;
  method: SaveMethod | 'builtin';
  methodReason: string;
  /** Whether O_DIRECT was really used, and why or why not. */
  directIo: boolean;
  directIoReason: string;
  channels: number;
  ramBytes: number;
  normalPages: number;
  /** Pages that are zero and take no place. */
  duplicatePages: number;
  normalBytes: number;
  fileBytes: number;
  /** What the file takes on disk: less than `fileBytes`, since zero pages are holes. */
  allocatedBytes: number;
  totalTimeMs: number;
  /** How long the guest did not run. */
  downtimeMs: number;
  /** Data and name are on the disk. */
  synced: boolean;
  /** Absent for the builtin guest. */
  qemuVersion?: string;
  /** State of the VM afterwards. */
  runState: string;
}

export const DEFAULT_CHANNELS = 4;

/**
 * Saves `vm` into `file`. The file appears under its name only when it is complete and on disk; until then, and if
 * anything fails, a previous file of that name stays and the VM goes on as before.
 *
 * @throws MapramError of any code; see the code for what was wrong
 */
export async function save(options: SaveOptions): Promise<SaveResult> {
  const startedAt = performance.now();
  const {
    vm: vmOption,
    file,
    force = false,
    directIo = 'auto',
    signal = new AbortController().signal,
  } = options;
  signal.throwIfAborted();
  using target = TargetFile.create(file, { force });
  const choice = chooseDirectIo(file, directIo, () => probeDirectIo(target.partPath));
  if (choice.warning !== undefined) options.onWarning?.(choice.warning);
  const run: SaveRun = { options, target, choice, signal, channels: options.channels ?? DEFAULT_CHANNELS };
  if (typeof vmOption !== 'string') return await saveBuiltin(run, vmOption, startedAt);
  await using vm = await QemuVm.connect(vmOption, { signal });
  return await saveQemu(run, vm, startedAt);
}

interface SaveRun {
  options: SaveOptions;
  target: TargetFile;
  choice: DirectIoChoice;
  signal: AbortSignal;
  channels: number;
}

/** What both ways of saving a VM report. */
type Saved = Pick<
  SaveResult,
  'channels' | 'ramBytes' | 'normalPages' | 'duplicatePages' | 'normalBytes' | 'fileBytes' | 'downtimeMs'
> & { resume(): Promise<void> };

async function saveQemu(run: SaveRun, vm: QemuVm, startedAt: number): Promise<SaveResult> {
  const { options, target, choice } = run;
  const runStateBefore = await vm.assertCanMigrate();
  const { method, reason } = await chooseMethod(vm, options.method ?? 'auto', options.live ?? false);
  await assertSpace(target, await memoryInUse(vm));
  const saved =
    method === 'native'
      ? await saveQemuNatively(run, vm, runStateBefore)
      : await saveThroughEngine(run, new QemuSharedSource(vm));
  const result = await finish(run, saved, async () => {
    const then = options.then ?? (runStateBefore === 'running' ? 'cont' : 'stop');
    if (then === 'cont') await (runStateBefore === 'running' ? saved.resume() : vm.cont());
    return vm.runState();
  });
  if (options.then === 'quit') {
    await vm.client.execute('quit').catch(() => {});
    result.runState = 'shutdown';
  }
  return {
    file: target.file,
    method,
    methodReason: reason,
    directIo: choice.directIo,
    directIoReason: choice.reason,
    ...result,
    totalTimeMs: Math.round(performance.now() - startedAt),
    synced: true,
    qemuVersion: vm.versionText,
  };
}

async function saveBuiltin(run: SaveRun, guest: BuiltinGuest, startedAt: number): Promise<SaveResult> {
  const { options, target, choice } = run;
  const wasRunning = guest.runState === 'running';
  await assertSpace(
    target,
    guest.blocks.reduce((total, { fd }) => total + allocatedBytes(fd), 0),
  );
  if (!options.live && wasRunning) await guest.stop();
  const saved = await saveThroughEngine(run, new GuestSource(guest, wasRunning)).catch(
    async (error: unknown) => {
      if (wasRunning && guest.runState !== 'running') await guest.cont();
      throw error;
    },
  );
  const result = await finish(run, saved, async () => {
    const then = options.then ?? (wasRunning ? 'cont' : 'stop');
    if (then === 'cont' && guest.runState !== 'running') await guest.cont();
    return guest.runState;
  });
  if (options.then === 'quit') await guest[Symbol.asyncDispose]();
  return {
    file: target.file,
    method: 'builtin',
    methodReason: 'the guest is in this process',
    directIo: choice.directIo,
    directIoReason: choice.reason,
    ...result,
    totalTimeMs: Math.round(performance.now() - startedAt),
    synced: true,
  };
}

/** The guest goes on before the last sync: its downtime ends when its state is taken, not when the disk is through. */
async function finish(
  { options, target }: SaveRun,
  saved: Saved,
  settle: () => Promise<string>,
): Promise<Omit<Saved, 'resume'> & { allocatedBytes: number; runState: string }> {
  const { resume: _, ...figures } = saved;
  const runState = await settle();
  options.onProgress?.({
    phase: 'syncing',
    bytes: saved.normalBytes,
    totalBytes: saved.normalBytes,
    pages: saved.normalPages,
    rate: 0,
  });
  const allocated = fstatSync(target.fd).blocks * 512;
  await target.publish();
  return { ...figures, allocatedBytes: allocated, runState };
}

async function saveThroughEngine(run: SaveRun, source: OutgoingSource): Promise<Saved> {
  const { options, target, choice, signal, channels } = run;
  const parameters = {
    ...defaultParameters(qemuProfile('10.0')),
    'direct-io': choice.directIo,
    'multifd-channels': channels,
  };
  const capabilities = { ...defaultCapabilities(), 'mapped-ram': true, multifd: true };
  using file = MigrationFile.adopt(target.partPath, target.fd, options.offset ?? 0, {
    parameters,
    capabilities,
  });
  const migration = new OutgoingMigration({ source, file, parameters, capabilities, sync: false });
  if (options.onProgress) migration.on('progress', options.onProgress);
  const cancel = () => migration.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  let result: OutgoingResult;
  try {
    result = await migration.run();
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
    resume: () => source.resume(),
  };
}

async function saveQemuNatively(run: SaveRun, vm: QemuVm, runStateBefore: string): Promise<Saved> {
  const { options, target, choice, signal, channels } = run;
  const live = options.live ?? false;
  const { info, downtimeMs, resume } = await saveNatively(vm, {
    // QEMU may have another working directory, and opens the path itself over TCP.
    path: realpathSync(path.dirname(target.partPath)) + path.sep + path.basename(target.partPath),
    offset: options.offset ?? 0,
    channels,
    directIo: choice.directIo,
    live,
    signal,
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  if (!live && runStateBefore === 'running')
    await recordRunState(target.partPath, 'running', options.offset ?? 0);
  const { ram } = info;
  if (!ram)
    throw new MapramError(
      'QMP',
      `saving the VM at ${vm.address}: QEMU completed without telling what it wrote`,
    );
  return {
    channels,
    ramBytes: ram.total,
    normalPages: ram.normal,
    duplicatePages: ram.duplicate,
    normalBytes: ram['normal-bytes'],
    fileBytes: fstatSync(target.fd).size,
    downtimeMs,
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
