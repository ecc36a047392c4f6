/** What saves that died have left: part files in a directory, and VMs that were stopped for them. */

import path from 'node:path';
import { errorReason } from '../errors.js';
import { formatSize } from '../size.js';
import {
  findLeftOvers,
  type LeftOverPart,
  leftOverAt,
  removeLeftOver,
} from '../snapshot/files/left-over-parts.js';
import { rescue as rescueHeld } from '../snapshot/guard/rescue-vm.js';
import { takeAbandonedRecords } from '../snapshot/guard/save-record.js';
import { takeAbandonedVms, type VmRecord } from '../snapshot/guard/vm-record.js';
import type { Count } from '../units.js';
import type { Finding } from './finding.js';

export interface LeftBehind {
  /** Part files that nobody writes. */
  parts: (LeftOverPart & { removed: boolean })[];
  /** VMs whose save died before they were in their final state again. */
  vms: { address: string; file: string; rescued: boolean }[];
  /** VMs that were to end with a process that was killed, together with its guard. */
  orphans: { file: string; processes: Count[]; ended: boolean }[];
  /** What was made for VMs that were left to themselves and have ended: folders of clones, sockets. */
  ended: { path: string; removed: boolean }[];
  findings: Finding[];
}

/**
 * @param options.clean remove the part files, and what was made for VMs that have ended
 * @param options.rescue bring the VMs back to the state they were in
 * @param options.endOrphans end VMs that were to end with a process that was killed; false by default
 */
export async function checkLeftBehind(
  directory: string,
  { clean, rescue, endOrphans = false }: { clean: boolean; rescue: boolean; endOrphans?: boolean },
): Promise<LeftBehind> {
  const result: LeftBehind = { parts: [], vms: [], orphans: [], ended: [], findings: [] };
  const parts = findLeftOvers(directory);
  for (const held of takeAbandonedRecords()) {
    using _ = held;
    const { file, partPath, vm: recorded } = held.record;
    if (recorded === undefined) {
      // It died before it touched a VM, and its part file may be in another directory.
      const elsewhere = path.dirname(partPath) !== path.resolve(directory);
      const part = leftOverAt(partPath);
      if (part !== undefined && elsewhere) parts.push(part);
      if (part === undefined || clean) held.remove();
      continue;
    }
    const { address, runState } = recorded;
    const vm = { address, file, rescued: false };
    result.vms.push(vm);
    const subject = `the VM at ${address}`;
    if (!rescue) {
      const message = `a save to ${file} died and may have left it stopped (it was ${runState}); "mapram doctor --rescue" brings it back`;
      result.findings.push({ level: 'bad', subject, message });
      continue;
    }
    try {
      const state = await rescueHeld(held);
      vm.rescued = true;
      const message = `${state === 'gone' ? 'has ended' : `is ${state} again`} after a save to ${file} died`;
      result.findings.push({ level: 'good', subject, message });
    } catch (error) {
      result.findings.push({ level: 'bad', subject, message: errorReason(error) });
    }
  }
  for (const part of parts) {
    const removed = clean && removeLeftOver(part.path);
    result.parts.push({ ...part, removed });
    result.findings.push(
      removed
        ? {
            level: 'good',
            subject: part.path,
            message: `removed, ${formatSize(part.bytes)} of a save that died`,
          }
        : {
            level: 'note',
            subject: part.path,
            message: `${formatSize(part.bytes)} of a save to ${part.target} that died; "mapram doctor --clean" removes it`,
          },
    );
  }
  for (const record of takeAbandonedVms()) {
    using held = record;
    await checkOrphans(held, result, endOrphans);
    checkEnded(held, result, clean);
  }
  return result;
}

async function checkOrphans(
  record: VmRecord,
  { orphans, findings }: LeftBehind,
  endOrphans: boolean,
): Promise<void> {
  const { file } = record;
  const processes = record.processes().map(({ pid }) => pid);
  if (processes.length === 0 || endOrphans) await record.endVms();
  if (processes.length === 0) return;
  orphans.push({ file, processes, ended: endOrphans });
  const subject = `VMs of ${file}`;
  const which = `process${processes.length === 1 ? '' : 'es'} ${processes.join(', ')}`;
  findings.push(
    endOrphans
      ? { level: 'good', subject, message: `ended, ${which}` }
      : {
          level: 'bad',
          subject,
          message: `${which} were to end with a mapram that was killed; "mapram doctor --end-orphans" ends them`,
        },
  );
}

/** Folders may hold disks that somebody wants, so that they are removed only when that is asked for. */
function checkEnded(record: VmRecord, { ended, findings }: LeftBehind, clean: boolean): void {
  for (const made of record.leftOvers()) {
    ended.push({ path: made, removed: clean });
    const message = clean
      ? `removed, made for a VM of ${record.file} that has ended`
      : `made for a VM of ${record.file} that has ended; "mapram doctor --clean" removes it`;
    findings.push({ level: clean ? 'good' : 'note', subject: made, message });
  }
  if (record.processes().length === 0) record.dropEnded(() => (clean ? 'remove' : 'stay'));
}
