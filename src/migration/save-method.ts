/** Which way of saving fits a VM: `--method auto` and its reasons. */

import { errorReason, MapramError } from '../errors.js';
import { nameOfQemuWithout, releaseOf } from '../guest/qemu/qemu-features.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import {
  type Afterwards,
  problemWithState,
  returnsToState,
  type WayOfSaving,
} from '../guest/qemu/run-states.js';
import { blockNotShared, openSharedRam } from '../guest/qemu/shared-ram.js';
import { releaseFiles } from '../io/file/open-file.js';

/**
 * - `shared`: mapram copies the RAM out of the file behind it; QEMU sends the device state. Any QEMU, stopped guest.
 * - `native`: QEMU 9.1 or later writes the file itself with mapped-ram, multifd and direct-io.
 * - `stream`: mapram receives QEMU's stream and places its pages. Any QEMU, any memory.
 * - `incremental`: of a VM that was resumed from a file, only what has changed since is taken from its memory. Stopped guest.
 */
export const SAVE_METHODS = ['shared', 'native', 'stream', 'incremental'] as const;

export type SaveMethod = (typeof SAVE_METHODS)[number];

/** What the choice depends on beside the VM. */
export interface MethodWishes {
  method: SaveMethod | 'auto';
  /** Whether the guest is to run on while RAM is copied. */
  live: boolean;
  /** Whether it is to stand still for the device state only. */
  background: boolean;
  /** Whether the target takes O_DIRECT and may. */
  directIo: boolean;
  /** The state of the VM, which may be saved. */
  runState: string;
  afterwards?: Afterwards;
  /** Something that only a stream has was asked for: what, in words. */
  streamOnly?: string;
}

export interface MethodChoice {
  method: SaveMethod;
  /** Why, in half a sentence; part of the result. */
  reason: string;
}

/**
 * As `firstThatFits`, but nothing that the VM's run state forbids: see run-states.ts.
 *
 * @throws MapramError `VM` for a state that cannot be had back, or from which the VM cannot be continued
 */
export async function chooseMethod(
  vm: QemuVm,
  wishes: MethodWishes,
  base?: { path: string },
): Promise<MethodChoice> {
  const { runState, afterwards, background } = wishes;
  const choice = await firstThatFits(vm, wishes, base);
  const way: WayOfSaving = background ? 'background' : choice.method;
  const problem = problemWithState(vm, runState, way, afterwards);
  if (problem === undefined) return choice;
  throw new MapramError('VM', `saving the VM at ${vm.address}: ${problem}`, { path: vm.address });
}

/** Whether QEMU itself may not write the file, since it would leave a VM that did not run in `postmigrate`. */
function mustReturn(vm: QemuVm, { runState, afterwards }: MethodWishes): boolean {
  if (runState === 'running' || !returnsToState(vm, 'stream')) return false;
  return afterwards === undefined || afterwards === 'cont' || runState === 'suspended';
}

/**
 * Takes the first of these that fits: `incremental`, for a stopped save of a resumed VM; `shared`, which no stream or bitmap of QEMU's slows down; `native`, where QEMU
 * writes with O_DIRECT; `stream`.
 *
 * @param base the file that the VM was resumed from, if it was
 * @throws MapramError `UNSUPPORTED` when the VM cannot be saved the way that was asked for
 */
async function firstThatFits(
  vm: QemuVm,
  wishes: MethodWishes,
  base: { path: string } | undefined,
): Promise<MethodChoice> {
  const { method, streamOnly } = wishes;
  if (method === 'incremental' || method === 'auto') {
    const problem = streamOnly ?? whyNotIncremental(wishes, base);
    const reason = method === 'auto' ? `the RAM of the VM is a copy of ${base?.path}` : 'asked for';
    if (problem === undefined) return { method: 'incremental', reason };
    if (method === 'incremental') throw refusal(vm, method, `${problem}; use another method`);
  }
  if (method === 'stream') return { method, reason: 'asked for' };
  if (method === 'auto' && streamOnly !== undefined) return { method: 'stream', reason: streamOnly };
  const shared = streamOnly ?? (await whyNotShared(vm, wishes));
  if (shared === undefined) {
    const reason =
      method === 'shared' ? 'asked for' : 'the RAM of the VM is a shared file that can be mapped';
    if (method !== 'native') return { method: 'shared', reason };
  }
  const native = streamOnly ?? whyNotNative(vm);
  switch (method) {
    case 'shared':
      throw refusal(vm, method, `${shared}; use --method ${fitting(vm, wishes)}`);
    case 'native':
      if (native !== undefined) throw refusal(vm, method, `${native}; use --method stream`);
      return { method, reason: 'asked for' };
    case 'auto':
      if (native !== undefined) return { method: 'stream', reason: both(shared, native) };
      if (!wishes.directIo)
        return { method: 'stream', reason: both(shared, 'the file is written without O_DIRECT') };
      if (mustReturn(vm, wishes))
        return { method: 'stream', reason: both(shared, `the VM stays ${wishes.runState} that way`) };
      return { method: 'native', reason: shared ?? 'QEMU writes with O_DIRECT' };
  }
}

/** Why neither `shared` nor `native`. */
function both(shared: string | undefined, native: string): string {
  return shared === undefined || shared === native ? native : `${shared}; ${native}`;
}

function refusal(vm: QemuVm, method: SaveMethod, problem: string): MapramError {
  return new MapramError(
    'UNSUPPORTED',
    `saving the VM at ${vm.address} with --method ${method}: ${problem}`,
    {
      path: vm.address,
    },
  );
}

function whyNotIncremental({ live }: MethodWishes, base: { path: string } | undefined): string | undefined {
  if (base === undefined)
    return 'its RAM is not that of a mapped-ram file, or its process cannot be looked into';
  return live ? 'only a stopped guest is saved that way' : undefined;
}

function whyNotNative(vm: QemuVm): string | undefined {
  for (const [feature, what] of [
    ['directIo', 'direct-io'],
    ['mappedRam', 'mapped-ram'],
  ] as const) {
    if (!vm.has(feature))
      return `${nameOfQemuWithout(vm, feature)} has no ${what} migration (${releaseOf(feature)} has)`;
  }
  return undefined;
}

/** The way that is left where memory is not shared. */
function fitting(vm: QemuVm, { directIo, streamOnly }: MethodWishes): SaveMethod {
  return directIo && (streamOnly ?? whyNotNative(vm)) === undefined ? 'native' : 'stream';
}

async function whyNotShared(vm: QemuVm, { live, method }: MethodWishes): Promise<string | undefined> {
  if (live) return 'a running guest is saved by QEMU itself, since only QEMU knows which pages it dirties';
  const idstr = await blockNotShared(vm);
  if (idstr !== undefined) return `RAM block ${idstr} is not memory-backend-file,share=on`;
  return method === 'auto' ? await whyNotOpened(vm) : undefined;
}

/** Why the memory of the VM is out of reach although it is a file: asked before `auto` decides, while the guest still runs. */
async function whyNotOpened(vm: QemuVm): Promise<string | undefined> {
  const pid = vm.peerPid();
  if (pid === undefined) {
    // Over TCP the connection that QEMU makes for its device state tells which process it is.
    return vm.client.canPassDescriptors
      ? 'the process of QEMU cannot be told from here (a relay before its monitor, or another PID namespace)'
      : undefined;
  }
  try {
    const { opened, missing } = await openSharedRam(vm, pid);
    releaseFiles(opened.map(({ fd }) => fd));
    return missing[0] && `the file of its RAM block ${missing[0]} was not found in process ${pid}`;
  } catch (error) {
    return `its shared memory cannot be opened here: ${errorReason(error)}`;
  }
}
