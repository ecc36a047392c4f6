/** The ways in which a caller may say which QEMU is meant. */
import { QmpClient, type QmpPatience } from '../../qmp/qmp-client.js';
import { QemuVm } from './qemu-vm.js';

/** A QEMU that this process has started, such as a `ResumedVm`. */
export interface OwnQemu {
  readonly facts: { readonly pid: number; readonly qmp: string };
  /** The connection to its monitor. */
  qmp(): QmpClient;
}

/** A QMP socket, a connection to one, or a QEMU that this process has started. */
export type QemuReference = string | QmpClient | OwnQemu;

export function isOwnQemu(value: unknown): value is OwnQemu {
  return typeof value === 'object' && value !== null && typeof (value as OwnQemu).qmp === 'function';
}

/** How errors call it. */
export function nameOfQemu(vm: QemuReference): string {
  if (typeof vm === 'string') return vm;
  return vm instanceof QmpClient ? vm.name : vm.facts.qmp;
}

/**
 * Connects, or uses the connection that is there: that stays open, and the waits of its owner end with `patience.signal` as well.
 *
 * @throws MapramError `MONITOR`
 */
export async function connectVm(vm: QemuReference, patience: QmpPatience): Promise<QemuVm> {
  const connected = await connectTo(vm, patience);
  try {
    await connected.askFeatures();
    return connected;
  } catch (error) {
    await connected[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The error that work with a VM ends with: where it was cancelled and QEMU has not answered since, a question that was to put things right
 * may have failed as well, and says less than the reason for the cancellation.
 */
export function orCancelled(error: unknown, { client }: QemuVm, signal: AbortSignal): unknown {
  return signal.aborted && client.silent ? signal.reason : error;
}

async function connectTo(vm: QemuReference, patience: QmpPatience): Promise<QemuVm> {
  if (typeof vm === 'string') return await QemuVm.connect(vm, patience);
  if (vm instanceof QmpClient) return QemuVm.borrow(vm, vm.address && vm.name, patience);
  const { pid, qmp } = vm.facts;
  return QemuVm.borrow(vm.qmp(), qmp, patience, pid);
}
