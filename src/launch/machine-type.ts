/** Names of machine types: `pc`, an alias, becomes `pc-i440fx-10.0` in what is saved. */
import { isAtLeast, type QemuRelease } from '../options/qemu-profile.js';

/** Aliases whose versioned names do not begin with them. */
const FAMILIES: Readonly<Record<string, string>> = { pc: 'pc-i440fx', q35: 'pc-q35', pseries: 'pseries' };

/** Whether a machine given as `given` may be the saved `versioned` one: the same name, or an alias of its family. */
export function machineFits(given: string, versioned: string): boolean {
  return given === versioned || versioned.startsWith(`${FAMILIES[given] ?? given}-`);
}

/** Of a versioned machine type, in QEMU releases. */
export interface MachineSupport {
  /** The newest major release with it. */
  readonly newestMajor: number;
  /** The first release that calls it deprecated. */
  readonly deprecated: string;
  /** The first release without it. */
  readonly removed: string;
}

/** From here on age deprecates a machine type (source); 7.2.22 was seen to call only those before 2.0 deprecated. */
const DEPRECATES: QemuRelease = [9, 1];
/** From here on age removes a machine type: the recorded list of 10.1 begins with 4.2, and 10.0.2 was seen to have 2.4. */
const REMOVES: QemuRelease = [10, 1];
/** Those before 2.4 were deprecated and removed earlier (QEMU's documentation and history). */
const BEFORE_2_4: MachineSupport = { deprecated: '8.2', removed: '9.1', newestMajor: 9 };

/**
 * How long QEMU keeps a machine type: it is deprecated three years, with one major release a year, after it came and removed after six.
 * Undefined for names without a version, such as `microvm`, for those before 2.0, and for the builtin guest's.
 */
export function machineSupport(versioned: string): MachineSupport | undefined {
  const [, digits, minorDigits] = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned) ?? [];
  const [major, minor] = [Number(digits), Number(minorDigits)];
  if (digits === undefined || major < 2 || versioned.startsWith('mapram-')) return undefined;
  if (!isAtLeast([major, minor], [2, 4])) return BEFORE_2_4;
  const deprecated = laterOf([major + 3, minor], DEPRECATES);
  const removed = laterOf([major + 6, minor], REMOVES);
  return {
    deprecated: deprecated.join('.'),
    removed: removed.join('.'),
    // Of `-10.1`, which 16.1 lacks, 16.0 is the newest.
    newestMajor: removed[1] === 0 ? removed[0] - 1 : removed[0],
  };
}

function laterOf(one: QemuRelease, other: QemuRelease): QemuRelease {
  return isAtLeast(one, other) ? one : other;
}

/**
 * Whether QEMU sends a configuration at the start of a machine's stream: not for the machine types of PCs and pseries older than 2.4, the
 * only versioned ones there were. QEMU 9.1 is the first that lacks them all.
 */
export function sendsConfiguration(versioned: string): boolean {
  const version = /^(?:pc|pseries)(?:-.*)?-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned);
  if (version === null) return true;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major > 2 || (major === 2 && minor >= 4);
}

/** Until 4.0, RAM of memory backend objects is called `/objects/ID` unless told otherwise. */
export function usesCanonicalIds(versioned: string): boolean {
  const version = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned);
  if (version === null) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major < 4 || (major === 4 && minor === 0);
}
