import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { QemuVm } from '../../src/guest/qemu/qemu-vm.js';
import { allocateRange } from '../../src/io/file/file-space.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import type { ResumedVm } from '../../src/snapshot/resume/resumed-vm.js';
import { repositoryRoot } from '../../test/support/environment.js';
import type { TestVm } from '../../test/support/qemu.js';
import type { Benchmark, Sample } from '../benchmark.js';
import { startFresh } from '../fresh-file.js';
import { mapramSave } from '../measured-save.js';
import { runProcess } from '../process-usage.js';
import { StripedGuest } from '../striped-guest.js';

const PAGE = 4096;
/** One page in a hundred. */
const CHANGED_SHARE = 0.01;
/** Guests change their memory in pieces rather than in single pages. */
const PAGES_TOGETHER = 64;

/** A file system of its own that shares extents between files. Only root may mount one. */
class ReflinkFileSystem implements Disposable {
  private constructor(
    private readonly image: string,
    readonly folder: string,
  ) {}

  static make(parent: string, bytes: number): ReflinkFileSystem {
    const image = path.join(parent, 'xfs-image');
    const folder = path.join(parent, 'xfs');
    rmSync(image, { force: true });
    const fd = openSync(image, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      ftruncateSync(fd, bytes);
      allocateRange(fd, 0, bytes);
    } finally {
      closeSync(fd);
    }
    mkdirSync(folder, { recursive: true });
    execFileSync('mkfs.xfs', ['-q', '-f', '-m', 'reflink=1', image]);
    execFileSync('mount', ['-o', 'loop,nosuid,nodev', image, folder]);
    return new ReflinkFileSystem(image, folder);
  }

  [Symbol.dispose](): void {
    execFileSync('umount', [this.folder]);
    rmSync(this.image, { force: true });
  }
}

/** Returns the command line of the VM, with its sockets beside the file. */
async function saveBase(memoryMiB: number, file: string): Promise<string[]> {
  await using guest = await StripedGuest.start(memoryMiB, ['10.0']);
  const [vm] = guest.vms as [TestVm];
  await mapramSave(vm, file, 'shared', 4);
  return vm.commandLine.map((word) => word.replaceAll(vm.folder, path.dirname(file)));
}

/** Writes to one page in a hundred, as the guest itself would: each becomes a private copy. */
async function changePages(vm: ResumedVm): Promise<void> {
  await using qemu = await QemuVm.connect(vm.facts.qmp);
  const ram = (await qemu.ramBlocks()).reduce((a, b) => (a.usedLength > b.usedLength ? a : b));
  const fd = openSync(`/proc/${vm.pid}/mem`, 'r+');
  try {
    const pages = ram.usedLength / PAGE;
    const step = PAGES_TOGETHER / CHANGED_SHARE;
    for (let first = step / 2; first + PAGES_TOGETHER < pages; first += step) {
      for (let page = first; page < first + PAGES_TOGETHER; page++) {
        const at = Number(ram.hostAddress) + page * PAGE;
        writeSync(fd, randomFillSync(Buffer.alloc(64)), 0, 64, at);
      }
    }
  } finally {
    closeSync(fd);
  }
}

export const incrementalBenchmark: Benchmark = {
  name: 'incremental',
  title: 'Second save of a resumed VM, on XFS',
  description:
    'The guest of save-stopped (4 GiB; quick: 1 GiB), resumed from its file on an XFS in a loop device; one page in a hundred is changed, 64 neighbours at a time, across its memory. The whole command each time: `--method incremental` shares unchanged pages, `--method native` and `--method stream` write all pages.',
  goals: [{ group: 'incremental', against: 'full', timeAtMost: 0.1 }],
  async prepare({ folder, quick }) {
    if (process.getuid?.() !== 0 || !existsSync('/usr/sbin/mkfs.xfs'))
      throw new Error('the benchmark incremental mounts an XFS: it needs root and mkfs.xfs');
    const memoryMiB = quick ? 1024 : 4096;
    const fileSystem = ReflinkFileSystem.make(folder, 4 * memoryMiB * 2 ** 20);
    const base = path.join(fileSystem.folder, 'base');
    const again = path.join(fileSystem.folder, 'again');
    let vm: ResumedVm | undefined;
    const dispose = async () => {
      await vm?.[Symbol.asyncDispose]();
      fileSystem[Symbol.dispose]();
    };
    try {
      const command = await saveBase(memoryMiB, base);
      vm = await resume({ file: base, command, cont: true, onWarning() {} });
      await changePages(vm);
    } catch (error) {
      await dispose();
      throw error;
    }
    const resumed = vm;
    const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
    const measure = async (method: string): Promise<Sample> => {
      await startFresh(again);
      return await runProcess(process.execPath, [main, 'save', '--method', method, resumed.facts.qmp, again]);
    };
    return {
      contenders: [
        { name: 'mapram incremental', group: 'incremental', run: () => measure('incremental') },
        { name: 'mapram native', group: 'full', run: () => measure('native') },
        { name: 'mapram stream', group: 'full', run: () => measure('stream') },
      ],
      bytes: statSync(base).blocks * 512,
      [Symbol.asyncDispose]: dispose,
    };
  },
};
