/** Runs of saves that several benchmarks compare. */
import path from 'node:path';
import { repositoryRoot } from '../test/support/environment.js';
import { saveMappedRam, saveStream } from '../test/support/native-migration.js';
import type { TestVm } from '../test/support/qemu.js';
import type { Sample } from './benchmark.js';
import { cachedShare, startFresh, timedSync } from './fresh-file.js';
import { cpuSeconds, runProcess } from './process-usage.js';
import { StripedGuest } from './striped-guest.js';

/** `mapram save` with direct I/O, through its default number of channels where none is given; from the start of the process to its end. */
export async function mapramSave(
  vm: TestVm,
  file: string,
  method: 'shared' | 'native' | 'stream',
  channels?: number,
): Promise<Sample> {
  await StripedGuest.readyForAnotherSave(vm);
  await startFresh(file);
  const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
  const options = ['--method', method, '--direct-io', 'on', '--json'];
  if (channels !== undefined) options.push('--channels', String(channels));
  const before = cpuSeconds(vm.pid);
  const run = await runProcess(process.execPath, [main, 'save', ...options, vm.qmpPath, file]);
  const result: { synced?: boolean } = JSON.parse(run.stdout.trimEnd().split('\n').at(-1) ?? '{}');
  if (result.synced !== true) throw new Error('mapram did not sync the file');
  return {
    seconds: run.seconds,
    cpuSeconds: run.cpuSeconds + cpuSeconds(vm.pid) - before,
    peakMemoryBytes: run.peakMemoryBytes,
    cachedShare: cachedShare(file),
  };
}

/** QEMU's own mapped-ram save, from `migrate` to `completed`, then fsync. */
export function nativeSave(vm: TestVm, file: string, channels: number): Promise<Sample> {
  return qemuSave(vm, file, () => saveMappedRam(vm, file, { channels, directIo: true }));
}

/** `migrate exec:COMMAND FILE`, from `migrate` to `completed`, then fsync; without a limit on bandwidth. */
export function execSave(vm: TestVm, file: string, command: string): Promise<Sample> {
  return qemuSave(vm, file, () => saveStream(vm, file, command));
}

async function qemuSave(vm: TestVm, file: string, save: () => Promise<unknown>): Promise<Sample> {
  await StripedGuest.readyForAnotherSave(vm);
  await startFresh(file);
  const before = cpuSeconds(vm.pid);
  const start = performance.now();
  await save();
  const saved = (performance.now() - start) / 1000;
  return {
    seconds: saved + timedSync(file),
    cpuSeconds: cpuSeconds(vm.pid) - before,
    cachedShare: cachedShare(file),
  };
}
