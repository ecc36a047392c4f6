/** The range checks of `migrate-set-parameters`, in QEMU's order, over the values as they would be afterwards. */
import type { MigrationCapabilities } from './migration-capabilities.js';
import {
  type BitmapMapping,
  MIGRATION_PARAMETERS,
  type MigrationParameters,
  type ParameterName,
  parameterRow,
} from './migration-parameters.js';
import { OptionError } from './option-error.js';
import { isAtLeast, isServed, type QemuProfile } from './qemu-profile.js';

export interface ParameterCheckContext {
  readonly profile: QemuProfile;
  /** The values in force now: some checks look at these instead of the new ones. */
  readonly current: MigrationParameters;
  readonly capabilities: MigrationCapabilities;
  /** Page size of the target, in bytes. */
  readonly pageSize: number;
  readonly hasDirectIo: boolean;
}

type Check = (candidate: MigrationParameters, context: ParameterCheckContext) => void;

/** Checks that involve more than one value; the ranges of single values come from the table. */
const COMBINED_CHECKS: readonly { readonly rank: number; readonly check: Check }[] = [
  { rank: 110, check: checkXbzrleCache },
  { rank: 120, check: checkMaxCpuThrottle },
  { rank: 170, check: ({ 'block-bitmap-mapping': mapping }) => mapping && checkBitmapMapping(mapping) },
  { rank: 180, check: checkZeroCopy },
  { rank: 190, check: checkMappedRam },
  { rank: 220, check: checkDirectIo },
  { rank: 230, check: checkRdmaChunkSize },
];

const CHECKS: readonly Check[] = [
  ...(Object.keys(MIGRATION_PARAMETERS) as ParameterName[]).flatMap((name) => {
    const { range, checkRank } = parameterRow(name);
    return range === undefined || checkRank === undefined
      ? []
      : [{ rank: checkRank, check: rangeCheck(name) }];
  }),
  ...COMBINED_CHECKS,
]
  .sort((a, b) => a.rank - b.rank)
  .map(({ check }) => check);

/** @throws OptionError with the text of the first check that fails */
export function checkParameters(candidate: MigrationParameters, context: ParameterCheckContext): void {
  for (const check of CHECKS) check(candidate, context);
}

/** The name as range errors spell it. */
function underscored(name: string): string {
  return name.replaceAll('-', '_');
}

function rangeCheck(name: ParameterName): Check {
  const row = parameterRow(name);
  return (candidate, { profile }) => {
    const { range } = row;
    if (range === undefined || !isServed(profile, name, row)) return;
    if (row.ignoredBefore !== undefined && !isAtLeast(profile.release, row.ignoredBefore)) return;
    const value = candidate[name] as number | bigint;
    if (value >= range.min && (range.max === undefined || value <= range.max)) return;
    throw new OptionError(
      range.text ?? `Parameter '${range.dashed ? name : underscored(name)}' expects ${range.expects}`,
    );
  };
}

function checkXbzrleCache(candidate: MigrationParameters, { pageSize }: ParameterCheckContext): void {
  const bytes = BigInt(candidate['xbzrle-cache-size']);
  if (bytes < BigInt(pageSize) || (bytes & (bytes - 1n)) !== 0n) {
    throw new OptionError(
      "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size",
    );
  }
}

function checkMaxCpuThrottle(candidate: MigrationParameters): void {
  const max = candidate['max-cpu-throttle'];
  if (max < candidate['cpu-throttle-initial'] || max > 99) {
    throw new OptionError(
      "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99",
    );
  }
}

function checkZeroCopy(candidate: MigrationParameters, { capabilities }: ParameterCheckContext): void {
  if (!capabilities['zero-copy-send']) return;
  if (candidate['multifd-compression'] !== 'none' || candidate['tls-creds'] !== '') {
    throw new OptionError('Zero copy only available for non-compressed non-TLS multifd migration');
  }
}

/** Looks at the values in force, not at the new ones: that is what QEMU 9.0 to 10.0 do. */
function checkMappedRam(
  _candidate: MigrationParameters,
  { capabilities, current }: ParameterCheckContext,
): void {
  if (!capabilities['mapped-ram']) return;
  if (current['multifd-compression'] !== 'none' || current['tls-creds'] !== '') {
    throw new OptionError('Mapped-ram only available for non-compressed non-TLS multifd migration');
  }
}

function checkDirectIo(candidate: MigrationParameters, { hasDirectIo }: ParameterCheckContext): void {
  if (candidate['direct-io'] && !hasDirectIo) {
    throw new OptionError('No build-time support for direct-io');
  }
}

/** The range is from QEMU 11.1's source; its words have not been compared with a run. */
function checkRdmaChunkSize(candidate: MigrationParameters): void {
  const bytes = BigInt(candidate['x-rdma-chunk-size']);
  if (bytes < 1n << 20n || bytes > 1n << 30n || (bytes & (bytes - 1n)) !== 0n) {
    throw new OptionError("Parameter 'x_rdma_chunk_size' expects a power of two from 1 MiB to 1 GiB");
  }
}

/** An alias has one length byte in the stream; a node name has 32 bytes in QEMU, a bitmap name 1024, each with a NUL. */
const MAX_BYTES = { 'node alias': 255, 'node name': 31, 'bitmap alias': 255, 'bitmap name': 1023 } as const;

function checkBitmapMapping(mapping: BitmapMapping): void {
  checkBitmapNames(mapping, 'name');
  checkBitmapNames(mapping, 'alias');
}

/** QEMU builds one map from names to aliases, then one back, and refuses what is not one to one. */
function checkBitmapNames(mapping: BitmapMapping, by: 'name' | 'alias'): void {
  const nodes = new Set<string>();
  for (const node of mapping) {
    const nodeName = node['node-name'];
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(node.alias)) {
      badMapping(`The node alias '${node.alias}' is not well-formed`);
    }
    checkLength('node alias', node.alias);
    checkLength('node name', nodeName);
    const nodeKey = by === 'name' ? nodeName : node.alias;
    if (nodes.has(nodeKey)) {
      badMapping(
        by === 'name'
          ? `The node name '${nodeName}' is mapped twice`
          : `The node alias '${node.alias}' is used twice`,
      );
    }
    nodes.add(nodeKey);
    const bitmaps = new Set<string>();
    for (const bitmap of node.bitmaps) {
      checkLength('bitmap alias', bitmap.alias);
      checkLength('bitmap name', bitmap.name);
      const bitmapKey = bitmap[by];
      if (bitmaps.has(bitmapKey)) {
        badMapping(
          by === 'name'
            ? `The bitmap '${nodeName}'/'${bitmap.name}' is mapped twice`
            : `The bitmap alias '${node.alias}'/'${bitmap.alias}' is used twice`,
        );
      }
      bitmaps.add(bitmapKey);
    }
  }
}

function checkLength(what: keyof typeof MAX_BYTES, text: string): void {
  if (Buffer.byteLength(text) > MAX_BYTES[what]) {
    badMapping(`The ${what} '${text}' is longer than ${MAX_BYTES[what]} bytes`);
  }
}

function badMapping(reason: string): never {
  throw new OptionError(`Invalid mapping given for block-bitmap-mapping: ${reason}`);
}
