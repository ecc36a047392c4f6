/**
 * Every migration parameter that QEMU 7.2 to 11.1 knows, one row each.
 *
 * From a row follow: the TypeScript type, the default, what QMP and HMP accept and refuse and in which words, the
 * `query-qmp-schema` entry, the line of `info migrate_parameters` and the table in docs/options.md. Rows stand in the
 * order of QEMU's schema, which is the order in which types are checked.
 */
import type { JsonValue } from '../json/json-value.js';
import type { QapiStruct, QapiType, QapiValue } from './qapi.js';
import { isAtLeast, isServed, type Lifetime, type QemuProfile, type QemuRelease } from './qemu-profile.js';

export interface ParameterRow extends Lifetime {
  readonly type: QapiType;
  /** Absent for the one parameter that is absent until it is set. */
  readonly default?: JsonValue;
  /** One line for the documentation. */
  readonly summary: string;
  readonly unit?: string;
  readonly range?: ParameterRange;
  /** Position among the range checks; they do not run in schema order. */
  readonly checkRank?: number;
  /** The line of `info migrate_parameters`; absent where QEMU prints none. */
  readonly line?: ParameterLine;
  /** How HMP reads a number: as a plain one, with size suffixes (below 2^63 or 2^64), or as MiB with size suffixes. */
  readonly hmpNumber?: 'plain' | 'size' | 'signed-size' | 'mebibytes';
  readonly unstable?: boolean;
  /** Releases before this one accept a value, do not check it and do not keep it. */
  readonly ignoredBefore?: QemuRelease;
}

/** Both ends included. `expects` completes `Parameter 'NAME' expects …`. */
export interface ParameterRange {
  readonly min: number;
  readonly max?: number;
  readonly expects?: string;
  /** The whole text, where QEMU words it otherwise. */
  readonly text?: string;
  /** The range error uses the name with dashes; all others have underscores. */
  readonly dashed?: boolean;
}

export interface ParameterLine {
  readonly place: number;
  readonly suffix?: string;
  readonly quoted?: boolean;
  /** Where the line stands, and how it ends, from a later release on. */
  readonly moved?: { readonly since: QemuRelease; readonly place: number; readonly suffix?: string };
}

const bool = { kind: 'bool' } as const;
const size = { kind: 'integer', width: 'size' } as const;
const uint64 = { kind: 'integer', width: 'uint64' } as const;
const uint32 = { kind: 'integer', width: 'uint32' } as const;
const uint8 = { kind: 'integer', width: 'uint8' } as const;
const str = { kind: 'str' } as const;
const strOrNull = { kind: 'str-or-null' } as const;

const bitmapMapping = {
  kind: 'array',
  of: {
    kind: 'struct',
    members: {
      'node-name': { type: str },
      alias: { type: str },
      bitmaps: {
        type: {
          kind: 'array',
          of: {
            kind: 'struct',
            members: {
              name: { type: str },
              alias: { type: str },
              transform: {
                type: { kind: 'struct', members: { persistent: { type: bool, optional: true } } },
                optional: true,
              },
            },
          },
        },
      },
    },
  },
} as const;

export type BitmapMapping = QapiValue<typeof bitmapMapping>;

function between(min: number, max: number): ParameterRange {
  return { min, max, expects: `a value between ${min} and ${max}` };
}

function inRange(min: number, max: number): ParameterRange {
  return { min, max, expects: `an integer in the range of ${min} to ${max}` };
}

export const MIGRATION_PARAMETERS = {
  'announce-initial': {
    type: size,
    default: 50,
    unit: 'ms',
    summary: 'Delay before the first self-announcement of network cards on the destination.',
    range: between(0, 100000),
    checkRank: 130,
    hmpNumber: 'size',
    line: { place: 10, suffix: ' ms' },
  },
  'announce-max': {
    type: size,
    default: 550,
    unit: 'ms',
    summary: 'Longest delay between two announcements.',
    range: between(0, 100000),
    checkRank: 140,
    hmpNumber: 'size',
    line: { place: 20, suffix: ' ms' },
  },
  'announce-rounds': {
    type: size,
    default: 5,
    summary: 'Number of announcements.',
    range: between(0, 1000),
    checkRank: 150,
    hmpNumber: 'size',
    line: { place: 30 },
  },
  'announce-step': {
    type: size,
    default: 100,
    unit: 'ms',
    summary: 'By how much the delay grows with every announcement.',
    range: { min: 1, max: 10000, expects: 'a value between 0 and 10000' },
    checkRank: 160,
    hmpNumber: 'size',
    line: { place: 40, suffix: ' ms' },
  },
  'compress-level': {
    type: uint8,
    default: 1,
    until: [9, 1],
    summary: 'Level of the old single-stream compression.',
    range: between(0, 9),
    checkRank: 1,
    hmpNumber: 'plain',
    line: { place: 41 },
  },
  'compress-threads': {
    type: uint8,
    default: 8,
    until: [9, 1],
    summary: 'Threads of the old compression.',
    range: between(1, 255),
    checkRank: 2,
    hmpNumber: 'plain',
    line: { place: 42 },
  },
  'compress-wait-thread': {
    type: bool,
    default: true,
    until: [9, 1],
    summary: 'Whether to wait for a free compression thread rather than send a page uncompressed.',
    line: { place: 43 },
  },
  'decompress-threads': {
    type: uint8,
    default: 2,
    until: [9, 1],
    summary: 'Threads of the old decompression.',
    range: between(1, 255),
    checkRank: 3,
    hmpNumber: 'plain',
    line: { place: 44 },
  },
  'throttle-trigger-threshold': {
    type: uint8,
    default: 50,
    unit: '%',
    summary: 'Ratio of dirtied to transferred bytes at which auto-converge starts to throttle.',
    range: inRange(1, 100),
    checkRank: 10,
    hmpNumber: 'plain',
    line: { place: 50 },
  },
  'cpu-throttle-initial': {
    type: uint8,
    default: 20,
    unit: '%',
    summary: 'First throttling of auto-converge.',
    range: inRange(1, 99),
    checkRank: 20,
    hmpNumber: 'plain',
    line: { place: 60 },
  },
  'cpu-throttle-increment': {
    type: uint8,
    default: 10,
    unit: '%',
    summary: 'By how much auto-converge throttles more each time.',
    range: inRange(1, 99),
    checkRank: 30,
    hmpNumber: 'plain',
    line: { place: 70 },
  },
  'cpu-throttle-tailslow': {
    type: bool,
    default: false,
    summary: 'Whether throttling near the end grows in smaller steps.',
    line: { place: 80 },
  },
  'tls-creds': {
    type: strOrNull,
    default: '',
    summary: 'Id of the TLS credentials object; empty for no TLS.',
    line: { place: 100, quoted: true },
  },
  'tls-hostname': {
    type: strOrNull,
    default: '',
    summary: 'Host name that the certificate of the other side must carry.',
    line: { place: 110, quoted: true },
  },
  'tls-authz': {
    type: strOrNull,
    default: '',
    summary: 'Id of the authorization object that checks the distinguished name of the other side.',
    line: { place: 210, quoted: true, moved: { since: [10, 2], place: 111 } },
  },
  'max-bandwidth': {
    type: size,
    default: 134217728,
    unit: 'bytes/second',
    summary: 'Rate limit while the guest runs; 0 for none.',
    hmpNumber: 'mebibytes',
    line: { place: 120, suffix: ' bytes/second' },
  },
  'avail-switchover-bandwidth': {
    type: size,
    default: 0,
    unit: 'bytes/second',
    since: [8, 2],
    summary: 'Bandwidth to assume for the switchover; 0 to measure it.',
    hmpNumber: 'mebibytes',
    line: { place: 130, suffix: ' bytes/second' },
  },
  'downtime-limit': {
    type: uint64,
    default: 300,
    unit: 'ms',
    summary: 'Longest pause of the guest at switchover that is aimed at.',
    range: { min: 0, max: 2000000, expects: 'an integer in the range of 0 to (2000 * 1000) ms' },
    checkRank: 60,
    hmpNumber: 'size',
    line: { place: 140, suffix: ' ms' },
  },
  'x-checkpoint-delay': {
    type: uint32,
    default: 20000,
    unit: 'ms',
    unstable: true,
    summary: 'Time between two COLO checkpoints.',
    hmpNumber: 'plain',
    line: { place: 150, suffix: ' ms' },
  },
  'block-incremental': {
    type: bool,
    default: false,
    until: [9, 1],
    summary: 'Whether the old block migration sends only the top image.',
    line: { place: 151 },
  },
  'multifd-channels': {
    type: uint8,
    default: 2,
    summary: 'Number of channels that move pages at the same time.',
    range: between(1, 255),
    checkRank: 70,
    hmpNumber: 'plain',
    line: { place: 160 },
  },
  'xbzrle-cache-size': {
    type: size,
    default: 67108864,
    unit: 'bytes',
    summary: 'Cache for XBZRLE; a power of two.',
    checkRank: 110,
    hmpNumber: 'signed-size',
    line: { place: 190, suffix: ' bytes' },
  },
  'max-postcopy-bandwidth': {
    type: size,
    default: 0,
    unit: 'bytes/second',
    summary: 'Rate limit of background transfer during postcopy; 0 for none.',
    hmpNumber: 'size',
    line: { place: 200, moved: { since: [10, 2], place: 131, suffix: ' bytes/second' } },
  },
  'max-cpu-throttle': {
    type: uint8,
    default: 99,
    unit: '%',
    summary: 'Most that auto-converge throttles; not below cpu-throttle-initial.',
    checkRank: 120,
    hmpNumber: 'plain',
    line: { place: 90 },
  },
  'multifd-compression': {
    type: { kind: 'enum', values: ['none', 'zlib', 'zstd'] },
    default: 'none',
    summary: 'Compression of multifd packets; not with mapped-ram.',
    line: { place: 170 },
  },
  'multifd-zlib-level': {
    type: uint8,
    default: 1,
    summary: 'Level of zlib, 0 (none) to 9 (best).',
    range: between(0, 9),
    checkRank: 80,
    hmpNumber: 'plain',
    ignoredBefore: [9, 0],
  },
  'multifd-qatzip-level': {
    type: uint8,
    default: 1,
    since: [9, 2],
    summary: 'Level of QATzip, 1 to 9.',
    range: between(1, 9),
    checkRank: 90,
    hmpNumber: 'plain',
  },
  'multifd-zstd-level': {
    type: uint8,
    default: 1,
    summary: 'Level of zstd, 0 to 20.',
    range: between(0, 20),
    checkRank: 100,
    hmpNumber: 'plain',
    ignoredBefore: [9, 0],
  },
  'block-bitmap-mapping': {
    type: bitmapMapping,
    summary: 'Which dirty bitmaps of which block nodes are sent under which names; set through QMP only.',
    checkRank: 170,
    line: { place: 220 },
  },
  'x-vcpu-dirty-limit-period': {
    type: uint64,
    default: 1000,
    unit: 'ms',
    since: [8, 1],
    unstable: true,
    summary: 'Period over which the dirty page rate of a virtual CPU is limited.',
    range: { ...between(1, 1000), dashed: true },
    checkRank: 200,
    hmpNumber: 'size',
    line: { place: 230, suffix: ' ms' },
  },
  'vcpu-dirty-limit': {
    type: uint64,
    default: 1,
    unit: 'MB/s',
    since: [8, 1],
    summary: 'Limit of the dirty page rate of a virtual CPU.',
    range: { min: 1, text: "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s" },
    checkRank: 210,
    hmpNumber: 'size',
    line: { place: 240, suffix: ' MB/s' },
  },
  mode: {
    type: { kind: 'enum', values: ['normal', 'cpr-reboot', 'cpr-transfer', 'cpr-exec'] },
    default: 'normal',
    since: [8, 2],
    summary: 'Whether the guest moves, or stays on this host over a restart (cpr).',
    line: { place: 250 },
  },
  'zero-page-detection': {
    type: { kind: 'enum', values: ['none', 'legacy', 'multifd'] },
    default: 'multifd',
    since: [9, 0],
    summary: 'What detects zero pages: nothing, the migration thread, or the multifd channels.',
    line: { place: 180 },
  },
  'direct-io': {
    type: bool,
    default: false,
    since: [9, 1],
    summary:
      'Open the file of a mapped-ram migration with O_DIRECT wherever possible: every multifd channel moves its pages past the page cache. Needs the capabilities mapped-ram and multifd; has no effect without them.',
    checkRank: 220,
    line: { place: 260 },
  },
  'x-rdma-chunk-size': {
    type: size,
    default: 1048576,
    unit: 'bytes',
    since: [11, 1],
    unstable: true,
    summary: 'Size of the pieces in which RDMA registers memory: a power of two from 1 MiB to 1 GiB.',
    hmpNumber: 'size',
    line: { place: 265, suffix: ' bytes' },
  },
  'cpr-exec-command': {
    type: { kind: 'array', of: str },
    default: [],
    since: [10, 2],
    summary: 'Command that replaces the process in mode cpr-exec.',
    line: { place: 270 },
  },
} as const satisfies Record<string, ParameterRow>;

export type ParameterName = keyof typeof MIGRATION_PARAMETERS;

type RowValue<R> = R extends { type: infer T extends QapiType }
  ? T extends { kind: 'integer'; width: 'uint8' | 'uint32' }
    ? number
    : R extends { range: { max: number } }
      ? number
      : T extends { kind: 'str-or-null' }
        ? string
        : QapiValue<T>
  : never;

/**
 * The parameters of a migration, names as in QEMU. Always complete, whatever the profile shows, except
 * `block-bitmap-mapping`, which is absent until it is set. Bandwidths and sizes are `bigint` beyond 2^53-1.
 */
export type MigrationParameters = {
  [K in Exclude<ParameterName, 'block-bitmap-mapping'>]: RowValue<(typeof MIGRATION_PARAMETERS)[K]>;
} & { 'block-bitmap-mapping'?: BitmapMapping };

/** Values that only some releases have. */
const ENUM_LIFETIME: Readonly<Record<string, Lifetime>> = {
  'mode=cpr-transfer': { since: [10, 0] },
  'mode=cpr-exec': { since: [10, 2] },
};

export function parameterRow(name: ParameterName): ParameterRow {
  return MIGRATION_PARAMETERS[name];
}

/** The parameters a profile serves, in schema order. */
export function servedParameters(profile: QemuProfile): ParameterName[] {
  return (Object.keys(MIGRATION_PARAMETERS) as ParameterName[]).filter((name) =>
    isServed(profile, name, parameterRow(name)),
  );
}

/** The type of a parameter in a profile: an enumeration may have fewer values in an older release. */
export function parameterType(profile: QemuProfile, name: ParameterName): QapiType {
  const { type } = parameterRow(name);
  if (type.kind !== 'enum') return type;
  const built = profile.built[name];
  if (built !== undefined) return { kind: 'enum', values: built };
  const values = type.values.filter((value) => {
    const key = `${name}=${value}`;
    return isServed(profile, key, ENUM_LIFETIME[key] ?? {});
  });
  return { kind: 'enum', values };
}

/**
 * The answer to `query-migrate-parameters` in a profile: before 11.0 the TLS options are strings there, and str-or-null in the
 * argument alone.
 */
export function parametersReply(profile: QemuProfile): QapiStruct {
  const argument = parametersType(profile);
  if (isAtLeast(profile.release, [11, 0])) return argument;
  const members = Object.entries(argument.members).map(([name, member]) => [
    name,
    member.type.kind === 'str-or-null' ? { ...member, type: str } : member,
  ]);
  return { kind: 'struct', members: Object.fromEntries(members) };
}

/** The argument of `migrate-set-parameters` in a profile. */
export function parametersType(profile: QemuProfile): QapiStruct {
  const members: Record<string, { type: QapiType; optional: true; unstable: boolean }> = {};
  for (const name of servedParameters(profile)) {
    members[name] = {
      type: parameterType(profile, name),
      optional: true,
      unstable: parameterRow(name).unstable ?? false,
    };
  }
  return { kind: 'struct', members };
}

/**
 * Fresh parameters, all at their defaults.
 *
 * In profiles without `zero-page-detection` the migration thread looks for zero pages, which the newer name
 * `legacy` says.
 */
export function defaultParameters(profile: QemuProfile): MigrationParameters {
  const values: Record<string, JsonValue> = {};
  for (const name of Object.keys(MIGRATION_PARAMETERS) as ParameterName[]) {
    const fallback = parameterRow(name).default;
    if (fallback !== undefined) values[name] = structuredClone(fallback);
  }
  const zeroPages = MIGRATION_PARAMETERS['zero-page-detection'];
  if (!isServed(profile, 'zero-page-detection', zeroPages)) values['zero-page-detection'] = 'legacy';
  return values as MigrationParameters;
}
