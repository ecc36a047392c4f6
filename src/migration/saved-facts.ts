/** What a manifest tells of the VM that was saved. */
import { defined } from '../defined.js';
import type { GuestRamBlock } from '../guest/guest.js';
import { cpuIdentity } from '../guest/qemu/cpu-identity.js';
import { type PluggedDevices, pluggedDevices } from '../guest/qemu/plugged-devices.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import { commandLineOf } from '../launch/command-line.js';
import { cpuArgumentOf } from '../launch/cpu-argument.js';
import { type LaunchRecord, recordLaunch, withDisksOfNow } from '../launch/launch-record.js';
import type { Manifest } from '../manifest/manifest.js';
import type { SealOptions } from '../manifest/seal.js';

type Facts = SealOptions['facts'];

/** @param runState of the VM before the save */
export async function factsOfQemu(vm: QemuVm, runState: string): Promise<Facts> {
  const pid = vm.peerPid();
  const asked = pid === undefined ? undefined : cpuArgumentOf(pid);
  // A save does not fail for want of them.
  const [guestRegions, cpu, defaultRamId, plugged] = await Promise.all([
    vm.guestRegions().catch(() => []),
    cpuIdentity(vm, asked),
    vm.defaultRamId().catch(() => undefined),
    pluggedDevices(vm, (pid === undefined ? undefined : commandLineOf(pid)) ?? []).catch(() => NONE),
  ]);
  return {
    runState,
    qemu: vm.versionText,
    guestRegions,
    ...defined({ cpu, defaultRamId }),
    ...launchOf(vm, plugged),
  };
}

/**
 * The same facts at the moment when memory and device state are taken: a guest writes to its disks until it is stopped, and
 * QEMU flushes them then.
 */
export function atStateTaken(facts: Facts): Facts {
  const { launch, ...others } = facts;
  return launch === undefined ? facts : { ...others, launch: withDisksOfNow(launch as LaunchRecord) };
}

export function factsOfGuest(guest: { readonly blocks: readonly GuestRamBlock[] }, runState: string): Facts {
  const guestRegions = guest.blocks.map(({ idstr, guestAddress: start, usedLength: length }) => ({
    idstr,
    start,
    length,
    blockOffset: 0,
  }));
  return { runState, guestRegions };
}

const NONE: PluggedDevices = { options: [], unknown: [] };

/** Without the right to look at the process, or over TCP, a file is as good, but has to be told how to start its VM. */
function launchOf(vm: QemuVm, { options, unknown }: PluggedDevices): Pick<Manifest, 'launch'> {
  const pid = vm.peerPid();
  if (pid === undefined) return {};
  try {
    const launch = recordLaunch(pid, options);
    return { launch: unknown.length === 0 ? launch : { ...launch, missing: unknown } };
  } catch {
    return {};
  }
}
