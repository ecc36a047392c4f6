import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { formatSize, parseSize } from '../../size.js';

/** Bytes of a page of the builtin guest. */
export const PAGE_SIZE = 4096;

/** What guest RAM holds at the start, stripe by stripe of 1 MiB. */
export type MemoryPattern =
  /** Pages of random bytes. */
  | 'random'
  /** In every 1 MiB half random pages, a quarter repetitive ones, a quarter zero pages. */
  | 'mixed'
  /** Nothing: memory that was never touched. */
  | 'zero';

export interface BuiltinGuestOptions {
  /** Bytes of RAM, all RAM blocks together. Default 256 MiB. */
  readonly size?: number | undefined;
  /** Default `mixed`. */
  readonly pattern?: MemoryPattern | undefined;
  /** Percentage of 1 MiB stripes that the pattern fills; the others stay untouched. Default 75. */
  readonly fill?: number | undefined;
  /** Bytes a second of pages that the workload rewrites while the guest runs. Default 64 MiB; 0: only its counter. */
  readonly dirtyRate?: number | undefined;
  /** Same seed, same memory. 32 bits. Default 1. */
  readonly seed?: number | undefined;
  /** Number of equal RAM blocks. Default 1. */
  readonly blocks?: number | undefined;
}

export type BuiltinGuestSettings = {
  readonly [K in keyof BuiltinGuestOptions]-?: NonNullable<BuiltinGuestOptions[K]>;
};

const DEFAULTS: BuiltinGuestSettings = {
  size: 256 * 2 ** 20,
  pattern: 'mixed',
  fill: 75,
  dirtyRate: 64 * 2 ** 20,
  seed: 1,
  blocks: 1,
};

export const PATTERNS: readonly MemoryPattern[] = ['random', 'mixed', 'zero'];
const SIZE_RANGE = { min: 2 ** 20, max: 2 ** 40 };
/** A tick that rewrites more would take so long that stopping the guest did too. */
const MAX_DIRTY_RATE = 4 * 2 ** 30;

interface OptionRule {
  readonly member: keyof BuiltinGuestOptions;
  /** What a valid value looks like, for error texts. */
  readonly expects: string;
  parse(text: string): unknown;
  valid(value: unknown): boolean;
}

/** The keys of `builtin:KEY=VALUE,…`. */
const RULES: Readonly<Record<string, OptionRule>> = {
  size: {
    member: 'size',
    expects: `a size from ${formatSize(SIZE_RANGE.min)} to ${formatSize(SIZE_RANGE.max)} such as 256M`,
    parse: parseSize,
    valid: (value) => isWhole(value, SIZE_RANGE.min, SIZE_RANGE.max),
  },
  pattern: {
    member: 'pattern',
    expects: `one of ${PATTERNS.join(', ')}`,
    parse: (text) => text,
    valid: (value) => (PATTERNS as readonly unknown[]).includes(value),
  },
  fill: {
    member: 'fill',
    expects: 'a whole percentage from 0 to 100',
    parse: parseWhole,
    valid: (value) => isWhole(value, 0, 100),
  },
  'dirty-rate': {
    member: 'dirtyRate',
    expects: `bytes a second such as 100M, at most ${formatSize(MAX_DIRTY_RATE)}`,
    parse: parseSize,
    valid: (value) => isWhole(value, 0, MAX_DIRTY_RATE),
  },
  seed: {
    member: 'seed',
    expects: 'a whole number from 0 to 4294967295',
    parse: parseWhole,
    valid: (value) => isWhole(value, 0, 2 ** 32 - 1),
  },
  blocks: {
    member: 'blocks',
    expects: 'a whole number from 1 to 16',
    parse: parseWhole,
    valid: (value) => isWhole(value, 1, 16),
  },
};

/** The keys, as help texts show them. */
export const BUILTIN_OPTION_KEYS: readonly string[] = Object.keys(RULES);

/** Options of the first content of memory, which a guest that waits for a file gets from there. */
const CONTENT_OPTIONS = ['pattern', 'fill', 'seed'];

/**
 * Reads what follows `builtin:` on the command line, e.g. `size=1G,dirty-rate=100M`.
 *
 * @param incoming whether the guest will wait for a file to be loaded
 * @throws MapramError `USAGE` that names the key and what it takes
 */
export function parseBuiltinOptions(text: string, incoming = false): BuiltinGuestOptions {
  const options: Record<string, unknown> = {};
  for (const item of text === '' ? [] : text.split(',')) {
    const equals = item.indexOf('=');
    const key = equals < 0 ? item : item.slice(0, equals);
    const rule = Object.hasOwn(RULES, key) ? RULES[key] : undefined;
    if (rule === undefined) {
      throw usage(`unknown option '${key}'; valid ones are ${BUILTIN_OPTION_KEYS.join(', ')}`);
    }
    if (incoming && CONTENT_OPTIONS.includes(key)) {
      throw usage(`option '${key}' has no meaning for a VM whose memory comes from a file`);
    }
    if (rule.member in options) throw usage(`option '${key}' is given twice`);
    const value = equals < 0 ? undefined : rule.parse(item.slice(equals + 1));
    if (!rule.valid(value)) throw usage(`option '${key}' expects ${rule.expects}, got '${item}'`);
    options[rule.member] = value;
  }
  resolveBuiltinOptions(options);
  return options;
}

/**
 * Fills in the defaults.
 *
 * @throws MapramError `USAGE` for a value out of its range or values that contradict each other
 */
export function resolveBuiltinOptions(options: BuiltinGuestOptions): BuiltinGuestSettings {
  for (const [_key, rule] of Object.entries(RULES)) {
    const value = options[rule.member];
    if (value !== undefined && !rule.valid(value)) {
      throw usage(`option '${rule.member}' expects ${rule.expects}, got ${String(value)}`);
    }
  }
  const settings: BuiltinGuestSettings = { ...DEFAULTS, ...defined(options) };
  if (settings.size % (settings.blocks * PAGE_SIZE) !== 0) {
    throw usage(
      `size ${settings.size} is not a multiple of ${settings.blocks} blocks of ${PAGE_SIZE}-byte pages`,
    );
  }
  if (settings.pattern === 'zero' && options.fill !== undefined) {
    throw usage("option 'fill' has no meaning with pattern=zero, which leaves all memory untouched");
  }
  return settings;
}

function isWhole(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
}

function parseWhole(text: string): number | undefined {
  return /^\d{1,16}$/.test(text) ? Number(text) : undefined;
}

function usage(problem: string): MapramError {
  return new MapramError('USAGE', `setting up the builtin guest: ${problem}`);
}
