import { closeSync, openSync, statfsSync } from 'node:fs';
import os from 'node:os';
import { defined } from '../defined.js';
import { errorReason } from '../errors.js';
import { native } from '../io/native.js';
import { availableMemory } from '../io/process/host-memory.js';
import { hasErrno } from '../io/system-error.js';
import { formatSize } from '../size.js';
import type { Bytes, Count } from '../units.js';
import type { Finding } from './finding.js';

/** The machine and the runtime under mapram. Sizes in bytes. */
export interface HostCheck {
  readonly kernel: string;
  readonly architecture: string;
  readonly cpus: Count;
  readonly memoryTotal: Bytes;
  /** What can be had without swapping. */
  readonly memoryAvailable: Bytes;
  /** Free room in /dev/shm, where shared guest memory often lies. Absent where there is none. */
  readonly sharedMemoryFree?: Bytes;
  readonly node: string;
  /** Native calls: the library and its version, or why they cannot be made. */
  readonly native: { readonly works: boolean; readonly library: string; readonly problem?: string };
  /** `usable` (it can be opened; no guest is tried), `denied` (no permission) or `absent`. */
  readonly kvm: 'usable' | 'denied' | 'absent';
}

/** The oldest Node.js line that its project still maintains, as of this release of mapram. */
const OLDEST_MAINTAINED_NODE = 22;

export function checkHost(): HostCheck {
  const sharedMemoryFree = freeSharedMemory();
  return {
    kernel: `${os.type()} ${os.release()}`,
    architecture: os.arch(),
    cpus: os.availableParallelism(),
    memoryTotal: os.totalmem(),
    memoryAvailable: availableMemory(),
    ...defined({ sharedMemoryFree }),
    node: process.versions.node,
    native: checkNative(),
    kvm: checkKvm(),
  };
}

/** What the user should know about it. */
export function hostFindings(host: HostCheck): Finding[] {
  const findings: Finding[] = [];
  if (process.platform !== 'linux') {
    findings.push({
      level: 'bad',
      subject: 'kernel',
      message: `${host.kernel}: VMs can be saved and loaded on Linux only`,
    });
  }
  findings.push(
    host.native.works
      ? { level: 'good', subject: 'native calls', message: `work (${host.native.library})` }
      : {
          level: 'bad',
          subject: 'native calls',
          message: `do not work: ${host.native.problem}; reinstall mapram with optional dependencies`,
        },
  );
  if (Number.parseInt(host.node, 10) < OLDEST_MAINTAINED_NODE) {
    findings.push({
      level: 'note',
      subject: 'node',
      message: `${host.node} works, but its line no longer gets security fixes; ${OLDEST_MAINTAINED_NODE} or later does`,
    });
  }
  if (host.kvm === 'denied') {
    findings.push({
      level: 'note',
      subject: '/dev/kvm',
      message: 'is there but not for this user: VMs run without acceleration; join the group that owns it',
    });
  }
  return findings;
}

/** `2.1 GiB of 4 GiB memory available`. */
export function describeMemory({ memoryAvailable, memoryTotal, sharedMemoryFree }: HostCheck): string {
  const shared = sharedMemoryFree === undefined ? '' : `, ${formatSize(sharedMemoryFree)} free in /dev/shm`;
  return `${formatSize(memoryAvailable)} of ${formatSize(memoryTotal)} available${shared}`;
}

function checkNative(): HostCheck['native'] {
  try {
    const { library, pageSize } = native();
    return { works: pageSize > 0, library };
  } catch (error) {
    return { works: false, library: 'koffi', problem: errorReason(error) };
  }
}

/** Whether this user can open the KVM device. */
export function checkKvm(): HostCheck['kvm'] {
  try {
    // Opened, not only looked at: in a container the device can be visible and still be refused.
    closeSync(openSync('/dev/kvm', 'r+'));
    return 'usable';
  } catch (error) {
    return hasErrno(error, 'EACCES', 'EPERM') ? 'denied' : 'absent';
  }
}

function freeSharedMemory(): number | undefined {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
