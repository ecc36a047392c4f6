/** Makes QEMUs that wait with the memory of one snapshot, each with a folder and disks of its own. */

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { flag, path as folder, type OptionEntries } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { makeDirectories } from '../../io/file/make-directories.js';
import { hasErrno } from '../../io/system-error.js';
import { cloneCommandLine } from '../../launch/clone-command-line.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { clientSocketsOf } from '../../launch/endpoints.js';
import { isMemoryBlock, replaceSharedBackends } from '../../launch/memory-files.js';
import {
  type ClonedDisk,
  copyFile,
  createOverlay,
  replaceDisks,
  writableDisks,
} from '../../launch/overlays.js';
import { hasBalloon } from '../../launch/resume-command-line.js';
import { VmGuard } from '../guard/vm-guard.js';
import { BackgroundCheck, type BackgroundCheckOptions } from '../verify/background-check.js';
import type { VerifiedFile } from '../verify/verify.js';
import { type LaunchOptions, launchEntries } from './launch-options.js';
import { type LaunchPlan, planLaunch } from './launch-plan.js';
import { MacChanger, type NewMacs } from './new-macs.js';
import { type PreparedState, ResumeSource } from './resume-source.js';
import { ResumedVm } from './resumed-vm.js';
import { WaitingVm } from './waiting-vm.js';

export interface CloneOptions extends LaunchOptions {
  /**
   * Where each clone gets a folder for its sockets, logs and disks: `clone-1`, `clone-2`, … By default a new folder for
   * temporary files.
   */
  dir?: string | undefined;
  /**
   * Give the network cards of each clone MAC addresses of their own. The guest takes them up when its driver looks at the
   * card again; works for virtio-net.
   */
  newMacs?: boolean | undefined;
  /** Keep the folder of a clone, its disks included, when the clone is ended; without it, it is removed. */
  keep?: boolean | undefined;
}

export const cloneEntries: OptionEntries<CloneOptions> = {
  ...launchEntries,
  dir: v.optional(folder),
  newMacs: flag,
  keep: flag,
};

/** A clone that has everything but its device state. */
export interface WaitingClone extends AsyncDisposable {
  folder: string;
  qmp: string;
  waiting: WaitingVm;
  newMacs?: NewMacs;
}

const NO_GENERATION_ID =
  'the machine has no vmgenid device, so the guests do not notice that they are copies: they share random numbers, keys made from now on included; start the VM with -device vmgenid before it is saved';

/** A guest that gives memory back by its balloon makes QEMU write a line for each range, without end. */
const LOG_LIMIT = 1 << 20;

export class CloneFactory implements AsyncDisposable {
  #closed = false;

  private constructor(
    private readonly source: ResumeSource,
    private readonly plan: LaunchPlan,
    private readonly state: PreparedState,
    private readonly options: CloneOptions,
    /** Holds the folders of the clones. */
    readonly directory: string,
    private readonly disks: readonly ClonedDisk[],
    private readonly templates: readonly string[],
    private readonly macChanger: MacChanger | undefined,
    private readonly prefetched: Promise<number>,
    /** Of a file whose signature was required: what was found. */
    private readonly signed: VerifiedFile | undefined,
    /** Whoever removes the folder, or leaves it to itself, disposes of it. */
    readonly guard: VmGuard,
  ) {}

  /** @throws MapramError as `resume` does; nothing is left behind */
  static async open(options: CloneOptions): Promise<CloneFactory> {
    const source = await ResumeSource.open(options.file, options);
    let directory: string | undefined;
    let state: PreparedState | undefined;
    let guard: VmGuard | undefined;
    try {
      const plan = await planLaunch(source, options, 'run', true);
      refuseClients(options.file, plan.options);
      const macChanger = options.newMacs ? MacChanger.create(source.image, plan.options) : undefined;
      const verified = await source.assertVerified(options);
      directory = path.resolve(
        options.dir ?? path.join(os.tmpdir(), `mapram-fork-${randomBytes(6).toString('hex')}`),
      );
      // Before there is anything to remove.
      guard = VmGuard.start(source.file, options.dir === undefined ? directory : undefined);
      if (options.dir === undefined) mkdirSync(directory, { mode: 0o700 });
      else makeDirectories(directory, 0o700);
      const { warnings } = cloneCommandLine(plan.options, directory);
      if (!plan.generationRenewed) warnings.push(NO_GENERATION_ID);
      for (const warning of [...plan.warnings(), ...warnings]) options.onWarning?.(warning);
      const prefetched = source.prefetch(options.prefetch, options.signal);
      state = await source.prepareState(plan.mapped);
      const disks = writableDisks(plan.options, plan.workingDirectory);
      const templates = await createTemplates(disks, directory);
      const signed = options.requireSignature === undefined ? undefined : verified;
      return new CloneFactory(
        source,
        plan,
        state,
        options,
        directory,
        disks,
        templates,
        macChanger,
        prefetched,
        signed,
        guard,
      );
    } catch (error) {
      guard?.[Symbol.dispose]();
      state?.[Symbol.dispose]();
      if (directory !== undefined && options.dir === undefined) removeTree(directory);
      await source[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Whether the folder of the clones is this process' own and goes when they go. */
  get temporary(): boolean {
    return this.options.dir === undefined;
  }

  /** Starts one more QEMU. When it fails nothing of it is left behind. */
  async start(signal?: AbortSignal): Promise<WaitingClone> {
    const folder = createFolder(this.directory);
    try {
      const overlays = this.disks.map((_, index) => path.join(folder, `disk${index}.qcow2`));
      for (const [index, overlay] of overlays.entries()) {
        await copyFile(this.templates[index] as string, overlay);
      }
      const newMacs = this.macChanger?.next(this.plan.options);
      const { program, workingDirectory } = this.plan;
      const own = await this.#withOwnMemory(newMacs?.options ?? this.plan.options, folder);
      const { options, qmp } = cloneCommandLine(replaceDisks(own, this.disks, overlays), folder);
      const errorLog = path.join(folder, 'qemu.log');
      const waiting = await WaitingVm.start(
        this.source,
        {
          program,
          options,
          workingDirectory,
          terminal: 'detached',
          errorLog,
          ...defined({
            errorLogLimit: hasBalloon(options) ? LOG_LIMIT : undefined,
            cgroup: this.options.cgroup,
          }),
          guarded: this.guard.next({ qmp, ...defined({ made: this.options.keep ? undefined : folder }) }),
        },
        {
          allowCpuMismatch: this.options.allowCpuMismatch ?? false,
          ...defined({
            onWarning: this.options.onWarning,
            checkMemory: this.options.checkMemory,
            signal,
          }),
        },
      );
      return {
        folder,
        qmp,
        waiting,
        ...defined({ newMacs }),
        async [Symbol.asyncDispose]() {
          await waiting[Symbol.asyncDispose]();
          removeTree(folder);
        },
      };
    } catch (error) {
      removeTree(folder);
      throw error;
    }
  }

  /** Memory that others share, such as an NVDIMM, is a file of the clone's: filled from the snapshot where that has it, else a copy. */
  async #withOwnMemory(options: readonly CommandLineOption[], folder: string): Promise<CommandLineOption[]> {
    const copies: [from: string, to: string][] = [];
    const replaced = replaceSharedBackends(options, ({ id, path: name }) => {
      const file = path.join(folder, `${id}.memory`);
      const saved = this.source.image.blocks.some(({ idstr }) => isMemoryBlock(id)(idstr));
      if (!saved) copies.push([path.resolve(this.plan.workingDirectory, name), file]);
      return file;
    });
    for (const [from, to] of copies) await copyFile(from, to);
    return replaced;
  }

  /** Gives a waiting clone its state. One that does not take it is ended. */
  async complete(clone: WaitingClone, startedAt: number, signal?: AbortSignal): Promise<ResumedVm> {
    const { qmp, waiting, newMacs } = clone;
    try {
      const { runState, loadTimeMs, checkedPages } = await waiting.load(this.state, {
        cont: this.options.cont ?? false,
        ...defined({ patches: newMacs?.patches, signal }),
      });
      const totalTimeMs = performance.now() - startedAt;
      const facts = {
        pid: waiting.process.pid,
        qmp,
        loadTimeMs,
        totalTimeMs,
        runState,
        ...defined({ macs: newMacs?.macs, checkedPages }),
      };
      const remove = () => this.#removeFolder(clone.folder);
      return ResumedVm.of({
        facts,
        waiting,
        file: this.source.file,
        prefetched: this.prefetched,
        folder: { path: clone.folder, remove },
      });
    } catch (error) {
      await clone[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Of a clone that has ended; the folder of them all goes with the last one, where it is this process' own. */
  #removeFolder(folder: string): void {
    if (this.options.keep) return;
    removeTree(folder);
    if (this.#closed && this.temporary) this.removeDirectory();
  }

  /** Removes the folder of the clones where nothing is left in it. */
  removeDirectory(): void {
    try {
      rmdirSync(this.directory);
    } catch (error) {
      if (!hasErrno(error, 'ENOTEMPTY', 'ENOENT')) throw error;
    }
  }

  /** Begins to hold the memory that these clones share against its checksums, if that is wanted. */
  check(clones: readonly ResumedVm[], options: BackgroundCheckOptions): Promise<BackgroundCheck | undefined> {
    const { onWarning } = this.options;
    return BackgroundCheck.after(this.source, clones, { ...options, ...defined({ onWarning }) }, this.signed);
  }

  /** Warns when the file is changed. The caller disposes of it. */
  watch(): Disposable {
    return this.source.watch((message) => this.options.onWarning?.(message));
  }

  /** No more clones; those that exist are not touched, and neither are their folders. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const [template] = this.templates;
    if (template !== undefined) removeTree(path.dirname(template));
    this.state[Symbol.dispose]();
    await this.source[Symbol.asyncDispose]();
  }
}

/** What one program serves to one VM, clones cannot share: they would wait for each other, or talk to a stranger. */
function refuseClients(file: string, options: readonly CommandLineOption[]): void {
  const [client] = clientSocketsOf(options);
  if (client === undefined) return;
  const { user, address, isTpm } = client;
  const what = isTpm
    ? `its TPM is the swtpm at ${address} (${user}), which serves one VM; resume it instead, with a swtpm of its own`
    : `${user} connects to a socket of another program, ${address}, which clones cannot share; give the command line after -- without it, or resume the file instead`;
  throw new MapramError('UNSUPPORTED', `forking ${file}: ${what}`, { path: file });
}

export function removeTree(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** A new folder `clone-N` in `directory`, with the lowest number that is free. */
function createFolder(directory: string): string {
  for (let n = 1; ; n++) {
    const folder = path.join(directory, `clone-${n}`);
    try {
      mkdirSync(folder, { mode: 0o700 });
      return folder;
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
  }
}

/** One overlay of each disk, to be copied: until they are written to, overlays of the same disk are alike. */
async function createTemplates(disks: readonly ClonedDisk[], directory: string): Promise<string[]> {
  if (disks.length === 0) return [];
  const folder = mkdtempSync(path.join(directory, '.overlays-'));
  try {
    const files = disks.map((_, index) => path.join(folder, `disk${index}.qcow2`));
    await Promise.all(disks.map((disk, index) => createOverlay(disk, files[index] as string)));
    return files;
  } catch (error) {
    removeTree(folder);
    throw error;
  }
}
