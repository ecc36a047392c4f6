/** Starts many VMs from one mapped-ram file at once: what `mapram fork` does. */

import os from 'node:os';
import { assertOptions, optionsOf, wholeNumber } from '../../checked-options.js';
import { runOperation } from '../files/operation.js';
import {
  type BackgroundCheck,
  type BackgroundCheckOptions,
  backgroundCheckEntries,
} from '../verify/background-check.js';
import type { VerifiedFile } from '../verify/verify.js';
import { CloneFactory, type CloneOptions, cloneEntries, removeTree } from './clone-factory.js';
import { FORMER_LAUNCH_NAMES } from './launch-options.js';
import type { ResumedVm } from './resumed-vm.js';

export interface ForkOptions extends CloneOptions, BackgroundCheckOptions {
  /** How many clones. */
  count: number;
}

/** A host has not memory, processes or sockets for more: it is a number that was mistyped. */
const MAX_CLONES = 10_000;

const ForkOptionsSchema = optionsOf<ForkOptions>(
  { ...cloneEntries, ...backgroundCheckEntries, count: wholeNumber(1, MAX_CLONES) },
  FORMER_LAUNCH_NAMES,
);

/** What `ForkedVms` are made of. */
interface Parts {
  readonly vms: readonly ResumedVm[];
  readonly directory: string;
  readonly totalTimeMs: number;
  /** Disposed of when the clones end or are left to themselves. */
  readonly watch: Disposable;
  readonly guard: Disposable;
  readonly check: BackgroundCheck | undefined;
}

/** The clones. Disposing ends them all and removes their folders, unless `keep` was given. */
export class ForkedVms implements AsyncDisposable {
  readonly vms: readonly ResumedVm[];
  /** Holds the folders of the clones. */
  readonly directory: string;
  /** From the call until all guests were there, in ms. */
  readonly totalTimeMs: number;
  readonly #parts: Parts;
  #detached = false;

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.vms = parts.vms;
    this.directory = parts.directory;
    this.totalTimeMs = parts.totalTimeMs;
  }

  /** @internal */
  static of(parts: Parts): ForkedVms {
    return new ForkedVms(parts);
  }

  /** As of a `ResumedVm`: the clones share what is checked. */
  get verified(): Promise<VerifiedFile | undefined> {
    return this.#parts.check?.result ?? Promise.resolve(undefined);
  }

  /** Leaves all clones to themselves: this process may end, they go on. */
  async detach(): Promise<void> {
    const { watch, check, guard } = this.#parts;
    this.#detached = true;
    watch[Symbol.dispose]();
    await check?.cancel();
    await Promise.all(this.vms.map((vm) => vm.detach()));
    guard[Symbol.dispose]();
  }

  /** Ends all clones, unless they were detached. */
  async close(): Promise<void> {
    if (this.#detached) return;
    const { watch, check, guard } = this.#parts;
    await check?.cancel();
    await Promise.all(this.vms.map((vm) => vm.close()));
    watch[Symbol.dispose]();
    guard[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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
  assertOptions('fork', ForkOptionsSchema, options);
  return runOperation(`forking ${options.file}`, options.file, options, forkChecked);
}

async function forkChecked(options: ForkOptions): Promise<ForkedVms> {
  const startedAt = performance.now();
  const { count, signal } = options;
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
    // What was to be kept are clones, which there are none of.
    for (const { directory } of running) removeTree(directory);
    if (factory.temporary) removeTree(factory.directory);
    factory.guard[Symbol.dispose]();
    throw common.reason;
  }
  running.sort((a, b) => cloneNumber(a) - cloneNumber(b));
  const totalTimeMs = Math.round((performance.now() - startedAt) * 10) / 10;
  const check = await factory.check(running, options);
  const { directory, guard } = factory;
  return ForkedVms.of({ vms: running, directory, totalTimeMs, watch: factory.watch(), guard, check });
}

function cloneNumber({ directory }: ResumedVm): number {
  return Number(/\d+$/.exec(directory)?.[0]);
}
