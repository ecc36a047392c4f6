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

/** How often a boot is saved anew that stock QEMU cannot continue: in emulation a machine may be caught at a bad moment. */
const MOST_BOOTS = 3;

/**
 * Fills a folder of the cache with `image` and `checksum`; it appears complete or not at all, and only when a VM has been loaded from it and has
 * gone on.
 */
async function bootAndSave(options: VmOptions, entry: string): Promise<void> {
  mkdirSync(path.dirname(entry), { recursive: true });
  for (let boots = 1; ; boots++) {
    const draft = mkdtempSync(`${entry}.draft-`);
    try {
      await saveBoot(options, draft);
      await using _ = await loadBoot({ ...options, paused: false }, draft);
      // Another test run may have been faster; its state is as good.
      if (!existsSync(entry)) renameSync(draft, entry);
      return;
    } catch (error) {
      if (boots === MOST_BOOTS) throw error;
    } finally {
      rmSync(draft, { recursive: true, force: true });
    }
  }
}

async function saveBoot(options: VmOptions, folder: string): Promise<void> {
  await using vm = await startVm({ ...options, paused: false });
  await vm.stop();
  await (hasMappedRam(options) ? saveMappedRam : saveStream)(vm, path.join(folder, 'image'));
  writeFileSync(path.join(folder, 'checksum'), `${vm.console.bootChecksum}`);
}

/** A VM with what is in a folder of the cache, which runs unless it is to be paused. */
async function loadBoot(options: VmOptions, folder: string): Promise<TestVm> {
  const vm = await startVm({ ...options, incoming: true });
  try {
    await (hasMappedRam(options) ? loadMappedRam : loadStream)(vm, path.join(folder, 'image'));
    vm.console.bootChecksum = readFileSync(path.join(folder, 'checksum'), 'utf8');
    if (options.paused !== true) {
      await vm.cont();
      await vm.console.waitForCounterAbove(0);
    }
    return vm;
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
}

const hasMappedRam = (options: VmOptions): boolean => completeOptions(options).qemu !== '7.2';

/** A running Linux guest whose console knows its boot checksum. */
export async function startBootedVm(options: Omit<VmOptions, 'guest' | 'incoming'> = {}): Promise<TestVm> {
  const linux: VmOptions = { ...options, guest: 'linux' };
  const entry = path.join(cacheFolder, 'boots', cacheName(completeOptions(linux)));
  if (!existsSync(entry)) await bootAndSave(linux, entry);
  try {
    return await loadBoot(linux, entry);
  } catch (error) {
    // Otherwise every later run would fail as well, whatever is mended meanwhile.
    rmSync(entry, { recursive: true, force: true });
    throw error;
  }
}
