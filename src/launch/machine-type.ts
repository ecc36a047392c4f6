/** Names of machine types: `pc`, an alias, becomes `pc-i440fx-10.0` in what is saved. */

/** Aliases whose versioned names do not begin with them. */
const FAMILIES: Readonly<Record<string, string>> = { pc: 'pc-i440fx', q35: 'pc-q35', pseries: 'pseries' };

/** Whether a machine given as `given` may be the saved `versioned` one: the same name, or an alias of its family. */
export function machineFits(given: string, versioned: string): boolean {
  return given === versioned || versioned.startsWith(`${FAMILIES[given] ?? given}-`);
}

/** Until 4.0, RAM of memory backend objects is called `/objects/ID` unless told otherwise. */
export function usesCanonicalIds(versioned: string): boolean {
  const version = /-(\d+)\.(\d+)(?:\.\d+)?$/.exec(versioned);
  if (version === null) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major < 4 || (major === 4 && minor === 0);
}
