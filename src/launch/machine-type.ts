/** Names of machine types: `pc`, an alias, becomes `pc-i440fx-10.0` in what is saved. */

/** Aliases whose versioned names do not begin with them. */
const FAMILIES: Readonly<Record<string, string>> = { pc: 'pc-i440fx', q35: 'pc-q35', pseries: 'pseries' };

/** Whether a machine given as `given` may be the saved `versioned` one: the same name, or an alias of its family. */
export function machineFits(given: string, versioned: string): boolean {
  return given === versioned || versioned.startsWith(`${FAMILIES[given] ?? given}-`);
}

/** Of a versioned machine type, in QEMU releases. */
export interface MachineSupport {
  /** The first release that calls it deprecated. */
  readonly deprecated: string;
  /** The first release without it. */
  readonly removed: string;
}

/**
 * How long QEMU keeps a machine type: it is deprecated three years, with one major release a year, after it came and removed after six.
 * The removal is enforced from 11.0 on (QEMU's documentation). Undefined for names without a version, such as `microvm`, and for the
 * builtin guest's.
 */
export function machineSupport(versioned: string): MachineSupport | undefined {
  const [, major, minor] = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned) ?? [];
  if (major === undefined || versioned.startsWith('mapram-')) return undefined;
  const removed = Number(major) + 6;
  return {
    deprecated: `${Number(major) + 3}.${minor}`,
    removed: removed < 11 ? '11.0' : `${removed}.${minor}`,
  };
}

/**
 * Whether QEMU sends a configuration at the start of a machine's stream: not for machine types older than 2.4. QEMU 9.1 is the first that
 * lacks them all.
 */
export function sendsConfiguration(versioned: string): boolean {
  const version = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned);
  if (version === null) return true;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major > 2 || (major === 2 && minor >= 4) || versioned.startsWith('mapram-');
}

/** Until 4.0, RAM of memory backend objects is called `/objects/ID` unless told otherwise. */
export function usesCanonicalIds(versioned: string): boolean {
  const version = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned);
  if (version === null) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major < 4 || (major === 4 && minor === 0);
}
