/**
 * Linux takes a while to boot in emulation. A VM that a test needs only as "some running Linux" is therefore
 * saved once by stock QEMU, right after its boot, and loaded from the cache from then on.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder, kernelFile, qemuProgram } from './environment.js';
import { linuxInitramfs } from './guest-images.js';
import { loadMappedRam, loadStream, saveMappedRam, saveStream } from './native-migration.js';
import { type CompleteVmOptions, completeOptions, startVm, type TestVm, type VmOptions } from './qemu.js';

/** Everything that the saved state depends on, but not how its memory is backed. */
function cacheName(options: CompleteVmOptions): string {
  const { qemu, machine, memory, memoryMiB, fillMiB, churn, extraArgs } = options;
  const parts = {
    version: qemuProgram(qemu).version,
    machine,
    blocks: memory.startsWith('numa') ? 2 : 1,
    memoryMiB,
    fillMiB,
    churn,
    extraArgs,
    kernel: path.basename(kernelFile()),
    initramfs: path.basename(linuxInitramfs()),
  };
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex');
  return `linux-${machine}-${qemu}-${memoryMiB}M-${digest.slice(0, 16)}`;
}

/** Fills a folder of the cache with `image` and `checksum`; it appears complete or not at all. */
async function bootAndSave(
  options: VmOptions,
  entry: string,
  save: (vm: TestVm, file: string) => Promise<unknown>,
): Promise<void> {
  mkdirSync(path.dirname(entry), { recursive: true });
  const draft = mkdtempSync(`${entry}.draft-`);
  try {
    await using vm = await startVm({ ...options, paused: false });
    await vm.stop();
    await save(vm, path.join(draft, 'image'));
    writeFileSync(path.join(draft, 'checksum'), `${vm.console.bootChecksum}`);
    // Another test run may have been faster; its state is as good.
    if (!existsSync(entry)) renameSync(draft, entry);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** A running Linux guest whose console knows its boot checksum. */
export async function startBootedVm(options: Omit<VmOptions, 'guest' | 'incoming'> = {}): Promise<TestVm> {
  const linux: VmOptions = { ...options, guest: 'linux' };
  const complete = completeOptions(linux);
  const mappedRam = complete.qemu !== '7.2';
  const entry = path.join(cacheFolder, 'boots', cacheName(complete));
  if (!existsSync(entry)) await bootAndSave(linux, entry, mappedRam ? saveMappedRam : saveStream);
  const vm = await startVm({ ...linux, incoming: true });
  try {
    await (mappedRam ? loadMappedRam : loadStream)(vm, path.join(entry, 'image'));
    vm.console.bootChecksum = readFileSync(path.join(entry, 'checksum'), 'utf8');
    if (!complete.paused) {
      await vm.cont();
      await vm.console.waitForCounterAbove(0);
    }
    return vm;
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
}
