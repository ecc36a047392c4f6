/** Names of machine types: `pc`, an alias, becomes `pc-i440fx-10.0` in what is saved. */

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

/** From here on the removal is enforced; the oldest that 10.0.2 was seen to have is 2.4, and 7.2 has 1.4. */
const ENFORCED = 11;
const OLDEST_IN_10 = 4;

/**
 * How long QEMU keeps a machine type: it is deprecated three years, with one major release a year, after it came and removed after six.
 * The removal is enforced from 11.0 on (QEMU's documentation). Undefined for names without a version, such as `microvm`, for those
 * before 2.0, and for the builtin guest's.
 */
export function machineSupport(versioned: string): MachineSupport | undefined {
  const [, digits, minor] = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned) ?? [];
  const major = Number(digits);
  if (digits === undefined || major < 2 || versioned.startsWith('mapram-')) return undefined;
  const deprecated = `${major + 3}.${minor}`;
  if (major === 2 && Number(minor) < OLDEST_IN_10) return { deprecated, removed: '10.0', newestMajor: 9 };
  const removed = major + 6;
  if (removed < ENFORCED) return { deprecated, removed: `${ENFORCED}.0`, newestMajor: ENFORCED - 1 };
  // Of `-10.1`, which 16.1 lacks, 16.0 is the newest.
  return {
    deprecated,
    removed: `${removed}.${minor}`,
    newestMajor: Number(minor) === 0 ? removed - 1 : removed,
  };
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
