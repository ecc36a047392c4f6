/** Saves and loads a VM with what QEMU itself offers, as the independent counterpart to the code under test. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestVm } from './qemu.js';

export interface NativeOptions {
  /** multifd channels; 0 leaves multifd off. */
  channels?: number;
  directIo?: boolean;
  /** Where in the file the stream starts. */
  offset?: number;
}

export interface MigrationInfo {
  status: string;
  'error-desc'?: string;
  'total-time'?: number;
  downtime?: number;
  ram?: Record<string, number>;
}

async function setCapabilities(vm: TestVm, states: Record<string, boolean>): Promise<void> {
  const capabilities = Object.entries(states).map(([capability, state]) => ({ capability, state }));
  await vm.qmp.execute('migrate-set-capabilities', { capabilities });
}

/**
 * Waits until the migration is over, and throws what QEMU says if it did not complete.
 *
 * `completed` alone is too early: until QEMU 10.0 has ended the migration's threads it refuses `cont`, and taking the
 * capability multifd away makes it leave them behind and abort in the next migration.
 */
export async function waitForMigration(vm: TestVm): Promise<MigrationInfo> {
  await vm.qmp.waitForEvent('MIGRATION', ({ status }) => status === 'completed' || status === 'failed');
  if (vm.options.qemu !== '7.2') {
    while ((await vm.qmp.execute<unknown[]>('query-migrationthreads')).length > 0) await sleep(1);
  }
  while ((await vm.status()) === 'finish-migrate') await sleep(1);
  const info = await vm.qmp.execute<MigrationInfo>('query-migrate');
  if (info.status !== 'completed') throw new Error(info['error-desc'] ?? `migration ${info.status}`);
  return info;
}

async function withMappedRam<T>(vm: TestVm, options: NativeOptions, work: () => Promise<T>): Promise<T> {
  const channels = options.channels ?? 0;
  vm.qmp.forgetEvents();
  await setCapabilities(vm, { events: true, 'mapped-ram': true, multifd: channels > 0 });
  await vm.qmp.execute('migrate-set-parameters', {
    'max-bandwidth': 0,
    'direct-io': options.directIo ?? false,
    ...(channels > 0 && { 'multifd-channels': channels }),
  });
  try {
    return await work();
  } finally {
    if (!vm.ended) {
      await setCapabilities(vm, { 'mapped-ram': false, multifd: false });
      await vm.qmp.execute('migrate-set-parameters', { 'direct-io': false });
    }
  }
}

const fileUri = (file: string, { offset }: NativeOptions): string =>
  offset === undefined ? `file:${file}` : `file:${file},offset=${offset}`;

/**
 * QEMU 9.1 and later: writes a mapped-ram file. The VM is left as QEMU leaves it, stopped in `postmigrate`, from where
 * it can be saved again only after it has run.
 */
export async function saveMappedRam(
  vm: TestVm,
  file: string,
  options: NativeOptions = {},
): Promise<MigrationInfo> {
  return await withMappedRam(vm, options, async () => {
    await vm.qmp.execute('migrate', { uri: fileUri(file, options) });
    return await waitForMigration(vm);
  });
}

/** QEMU 9.1 and later: loads a mapped-ram file into a VM that was started as `incoming`. */
export async function loadMappedRam(vm: TestVm, file: string, options: NativeOptions = {}): Promise<void> {
  await withMappedRam(vm, options, async () => {
    await vm.qmp.execute('migrate-incoming', { uri: fileUri(file, options) });
    await waitForMigration(vm);
  });
}

const quoted = (file: string): string => `'${file.replaceAll("'", "'\\''")}'`;

/** Writes what comes in by its standard input to the quoted path that follows. */
const CAT = 'cat >';

/** Any QEMU: an ordinary stream, written by a shell command that the quoted path of the file is appended to. */
export async function saveStream(vm: TestVm, file: string, command = CAT): Promise<MigrationInfo> {
  vm.qmp.forgetEvents();
  await setCapabilities(vm, { events: true });
  await vm.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 2 ** 40 });
  await vm.qmp.execute('migrate', { uri: `exec:${command}${quoted(file)}` });
  return await waitForMigration(vm);
}

/** Any QEMU: loads what saveStream wrote. */
export async function loadStream(vm: TestVm, file: string): Promise<void> {
  vm.qmp.forgetEvents();
  await setCapabilities(vm, { events: true });
  await vm.qmp.execute('migrate-incoming', { uri: `exec:cat ${quoted(file)}` });
  await waitForMigration(vm);
}
