/** Starts many VMs from one mapped-ram file at once: what `mapram fork` does. */

import os from 'node:os';
import path from 'node:path';
import { MapramError } from '../../errors.js';
import { runOperation } from '../files/operation.js';
import type { BackgroundCheck, BackgroundCheckOptions } from '../verify/background-check.js';
import type { VerifiedFile } from '../verify/verify.js';
import { CloneFactory, type CloneOptions, removeTree } from './clone-factory.js';
import type { ResumedVm } from './resumed-vm.js';

export interface ForkOptions extends CloneOptions, BackgroundCheckOptions {
  /** How many clones. */
  count: number;
}

/** The clones. Disposing ends them all and removes their folders where `directory` was not given. */
export class ForkedVms implements AsyncDisposable {
  #detached = false;

  constructor(
    readonly vms: readonly ResumedVm[],
    /** Holds the folders of the clones. */
    readonly directory: string,
    /** From the call until all guests were there, in ms. */
    readonly totalTimeMs: number,
    private readonly temporary: boolean,
    private readonly watch: Disposable,
    private readonly guard: Disposable,
    private readonly check?: BackgroundCheck,
  ) {}

  /** As of a `ResumedVm`: the clones share what is checked. */
  get verified(): Promise<VerifiedFile | undefined> {
    return this.check?.result ?? Promise.resolve(undefined);
  }

  /** Leaves all clones to themselves: this process may end, they go on. */
  async detach(): Promise<void> {
    this.#detached = true;
    this.watch[Symbol.dispose]();
    await this.check?.cancel();
    await Promise.all(this.vms.map((vm) => vm.detach()));
    this.guard[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#detached) return;
    await this.check?.cancel();
    await Promise.all(this.vms.map((vm) => vm[Symbol.asyncDispose]()));
    this.watch[Symbol.dispose]();
    if (this.temporary) removeTree(this.directory);
    this.guard[Symbol.dispose]();
  }
}

/** More QEMUs than this do not start at the same time: they would only wait for each other. */
const STARTING_AT_ONCE = 2 * os.availableParallelism();

/**
 * Starts `count` clones. All or none: when one fails, those that run are ended.
 *
 * @throws MapramError as `resume` does
 */
export async function fork(options: ForkOptions): Promise<ForkedVms> {
  return runOperation(`forking ${options.file}`, options.file, options, forkChecked);
}

async function forkChecked(options: ForkOptions): Promise<ForkedVms> {
  const startedAt = performance.now();
  const { count, signal } = options;
  if (!Number.isInteger(count) || count < 1) {
    throw new MapramError('USAGE', `forking ${options.file}: ${count} is not a number of clones`);
  }
  signal?.throwIfAborted();
  await using factory = await CloneFactory.open(options);
  const running: ResumedVm[] = [];
  // The first failure stops the others.
  const failure = new AbortController();
  const common = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
  let begun = 0;
  const startSome = async () => {
    while (begun < count && !common.aborted) {
      begun += 1;
      const cloneStartedAt = performance.now();
      try {
        running.push(await factory.complete(await factory.start(common), cloneStartedAt, common));
      } catch (error) {
        failure.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, STARTING_AT_ONCE) }, startSome));
  if (common.aborted) {
    await Promise.all(running.map((vm) => vm[Symbol.asyncDispose]()));
    if (factory.temporary) removeTree(factory.directory);
    else for (const vm of running) removeTree(path.dirname(vm.qmp));
    factory.guard[Symbol.dispose]();
    throw common.reason;
  }
  running.sort((a, b) => cloneNumber(a) - cloneNumber(b));
  const totalTimeMs = Math.round((performance.now() - startedAt) * 10) / 10;
  const check = await factory.check(running, options);
  const { directory, temporary, guard } = factory;
  return new ForkedVms(running, directory, totalTimeMs, temporary, factory.watch(), guard, check);
}

function cloneNumber({ qmp }: ResumedVm): number {
  return Number(/\d+$/.exec(path.dirname(qmp))?.[0]);
}
