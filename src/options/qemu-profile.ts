/** Which version of QEMU a monitor speaks as: decides which options exist and how they print. */

export type ProfileName = (typeof PROFILE_NAMES)[number];

/** Major and minor number; the micro number never changes an option. */
export type QemuRelease = readonly [major: number, minor: number];

export interface QemuProfile {
  readonly name: ProfileName;
  readonly release: QemuRelease;
  /** Options served although this release lacks them: mapram brings them to an older QEMU. */
  readonly added: ReadonlySet<string>;
  /** Values of enumerations that depend on how QEMU was built, by parameter; the release's usual ones where absent. */
  readonly built: Readonly<Record<string, readonly string[]>>;
}

/** Releases that differ from the one before in a migration option, a status or a command. */
export const PROFILE_NAMES = ['7.2', '9.0', '9.1', '10.0', '10.1', '10.2', '11.0', '11.1'] as const;

export const NEWEST_PROFILE: ProfileName = '11.1';

/** In which releases something exists: from `since` up to, but without, `until`. */
export interface Lifetime {
  readonly since?: QemuRelease;
  readonly until?: QemuRelease;
}

export function qemuProfile(
  name: ProfileName,
  added: Iterable<string> = [],
  built: QemuProfile['built'] = {},
): QemuProfile {
  const [major = 0, minor = 0] = name.split('.').map(Number);
  return { name, release: [major, minor], added: new Set(added), built };
}

/** The newest profile that is not newer than this QEMU; the oldest one for anything before it. */
export function profileForVersion(major: number, minor: number): QemuProfile {
  const fitting = PROFILE_NAMES.filter((name) => isAtLeast([major, minor], qemuProfile(name).release));
  return qemuProfile(fitting.at(-1) ?? '7.2');
}

/** Whether this QEMU is newer than any that mapram knows: it is taken for the newest of these. */
export function isNewerThanKnown([major, minor]: QemuRelease): boolean {
  const [newestMajor, newestMinor] = qemuProfile(NEWEST_PROFILE).release;
  return isAtLeast([major, minor], [newestMajor, newestMinor + 1]);
}

export function isAtLeast(release: QemuRelease, wanted: QemuRelease): boolean {
  return release[0] !== wanted[0] ? release[0] > wanted[0] : release[1] >= wanted[1];
}

export function existsIn(profile: QemuProfile, { since, until }: Lifetime): boolean {
  return (
    (since === undefined || isAtLeast(profile.release, since)) &&
    (until === undefined || !isAtLeast(profile.release, until))
  );
}

/** Whether a named option is served: it exists in the release or was added to the profile. */
export function isServed(profile: QemuProfile, name: string, lifetime: Lifetime): boolean {
  return existsIn(profile, lifetime) || profile.added.has(name);
}
