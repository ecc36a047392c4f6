/** Results of operations as the page gets them: every page gets all of them, so that they must not be long. */
import type { Comparison } from '../../analysis/compare.js';
import type { FieldChange, LeafValue } from '../../analysis/compare-devices.js';
import { formatValue } from '../../analysis/format-value.js';
import type { ConvertedFile } from '../../snapshot/convert/convert-target.js';
import type { ResumedVmFacts } from '../../snapshot/resume/resumed-vm.js';

export interface ForkSummary {
  readonly directory: string;
  readonly vms: readonly ResumedVmFacts[];
  readonly totalTimeMs: number;
}

export interface ConversionSummary {
  readonly files: readonly ConvertedFile[];
  readonly notes: readonly string[];
}

export interface ComparisonSummary
  extends Pick<Comparison, 'equal' | 'machine' | 'differentPages' | 'differentBytes'> {
  /** Those that differ. */
  readonly blocks: readonly { idstr: string; status: string; differentPages: number }[];
  readonly devices: readonly {
    idstr: string;
    instanceId: number;
    status: string;
    /** How many fields differ, and the first of them in words. */
    fields: number;
    changes: readonly string[];
  }[];
  /** Devices that differ and are not named here. */
  readonly moreDevices: number;
}

const MAX_BLOCKS = 50;
const MAX_DEVICES = 30;
const MAX_CHANGES = 3;
const MAX_CHANGE_CHARACTERS = 200;

export function summarize(comparison: Comparison): ComparisonSummary {
  const { equal, machine, differentPages, differentBytes, blocks, devices } = comparison;
  return {
    ...{ equal, machine, differentPages, differentBytes },
    blocks: blocks
      .filter(({ status }) => status !== 'equal')
      .slice(0, MAX_BLOCKS)
      .map(({ idstr, status, differentPages: pages }) => ({ idstr, status, differentPages: pages })),
    devices: devices.slice(0, MAX_DEVICES).map(({ idstr, instanceId, status, changes }) => ({
      ...{ idstr, instanceId, status },
      fields: changes.length,
      changes: changes.slice(0, MAX_CHANGES).map(describeChange),
    })),
    moreDevices: Math.max(0, devices.length - MAX_DEVICES),
  };
}

function describeChange({ path, type, before, after }: FieldChange): string {
  const show = (value: LeafValue | undefined) => (value === undefined ? 'absent' : formatValue(value, type));
  return `${path}: ${show(before)} → ${show(after)}`.slice(0, MAX_CHANGE_CHARACTERS);
}
