/**
 * What depends on the QEMU version: features and the faults that mapram works around, each with where it is known from.
 *
 * Anything that QEMU reports by itself (compression methods, commands) is asked for instead. These rows are for what no schema shows, and
 * for capabilities and parameters: those count where a QEMU has been asked for them, and the release only where it has not.
 */
import { isAtLeast, type QemuRelease } from '../../options/qemu-profile.js';

interface QemuFeature {
  readonly since: QemuRelease;
  /** `seen`: tried with real QEMUs before and from that release; `source`: read in QEMU's source or documentation. */
  readonly known: 'seen' | 'source';
  readonly summary: string;
  /** The migration capability or parameter by which QEMU shows it: some builds have it earlier, or lack it. */
  readonly shownBy?: { readonly capability: string } | { readonly parameter: string };
}

const FEATURES = {
  mappedRam: {
    since: [9, 0],
    known: 'seen',
    summary: 'reads and writes mapped-ram files',
    shownBy: { capability: 'mapped-ram' },
  },
  clearsZeroPages: {
    since: [10, 2],
    known: 'source',
    summary: 'clears pages that are zero in a mapped-ram file, whatever memory held',
  },
  directIo: {
    since: [9, 1],
    known: 'seen',
    summary: 'has the parameter direct-io',
    shownBy: { parameter: 'direct-io' },
  },
  exitOnError: { since: [9, 1], known: 'seen', summary: 'survives a failed load with exit-on-error false' },
  streamFromFile: { since: [8, 2], known: 'seen', summary: 'loads a plain stream from file:' },
  backgroundSnapshotEnds: {
    since: [9, 0],
    known: 'seen',
    summary: 'ends a background snapshot; 7.2.22 has the capability (6.0) and was seen to hang',
  },
  multifdSleeps: {
    since: [8, 1],
    known: 'seen',
    summary: 'lets its migration thread sleep while all multifd channels are busy',
  },
  multifdFlushesByPass: {
    since: [8, 1],
    known: 'seen',
    summary: 'synchronizes multifd channels once a pass, not after each RAM section',
  },
  switchoverStart: {
    since: [10, 0],
    known: 'seen',
    summary: 'waits for the switchover-start message of a load',
  },
  failureReturns: {
    since: [9, 0],
    known: 'seen',
    summary:
      'takes a VM that did not run back to its state when a migration fails at its end; 7.2.22 leaves postmigrate',
  },
  sharedMeansNamedFile: {
    since: [8, 1],
    known: 'source',
    summary:
      'leaves only memory with a name in a file system out of an x-ignore-shared stream; memfd is sent',
  },
} as const satisfies Record<string, QemuFeature>;

export type QemuFeatureName = keyof typeof FEATURES;

/** A QEMU that is asked for its features, such as `QemuVm`. */
export interface QemuWithFeatures {
  /** `10.0.2`. */
  readonly versionText: string;
  has(feature: QemuFeatureName): boolean;
}

export function hasFeature(release: QemuRelease, feature: QemuFeatureName): boolean {
  return isAtLeast(release, FEATURES[feature].since);
}

/** The features that show in a QEMU's migration capabilities and parameters, by their names, and whether it has them. */
export function shownFeatures(
  capabilities: ReadonlySet<string>,
  parameters: ReadonlySet<string>,
): Map<QemuFeatureName, boolean> {
  const rows = Object.entries(FEATURES) as [QemuFeatureName, QemuFeature][];
  return new Map(
    rows.flatMap(([name, { shownBy }]) => {
      if (shownBy === undefined) return [];
      const shown =
        'capability' in shownBy ? capabilities.has(shownBy.capability) : parameters.has(shownBy.parameter);
      return [[name, shown]];
    }),
  );
}

/** The first release with a feature, as people write it: `9.1`. */
export function releaseOf(feature: QemuFeatureName): string {
  return FEATURES[feature].since.join('.');
}

/** Names a QEMU that lacks a feature: `QEMU 7.2.22`, or `this build of QEMU 10.0.2` where the release should have it. */
export function nameOfQemuWithout({ versionText }: QemuWithFeatures, feature: QemuFeatureName): string {
  const [major = 0, minor = 0] = versionText.split('.').map(Number);
  return `${hasFeature([major, minor], feature) ? 'this build of ' : ''}QEMU ${versionText}`;
}

interface QemuFault {
  /** The newest release with it, as far as is known. */
  readonly upTo: string;
  readonly known: 'seen' | 'source';
  readonly summary: string;
  /** What mapram does instead. */
  readonly workaround: string;
}

/** Faults that mapram works around whatever the version is: no release is known to be free of them, or the way around costs nothing. */
export const QEMU_FAULTS = {
  directIoRefused: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'SIGSEGV where the file system refuses O_DIRECT',
    workaround: 'asks the file system first and opens the descriptors itself',
  },
  cancelMappedRam: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'SIGSEGV in about one of fifteen migrate_cancel of a mapped-ram migration with multifd',
    workaround: 'lets such a migration run to its end, at once',
  },
  migrateAfterCancel: {
    upTo: '11.0',
    known: 'source',
    summary: 'may crash in a second migration after a cancelled first; mended in 11.1',
    workaround: 'waits until the threads of a migration have ended',
  },
  shortWrites: {
    upTo: '10.x',
    known: 'source',
    summary: 'does not continue writes to file: that the kernel cut short; probably mended by 11.1',
    workaround:
      'reserves the space first and verifies what QEMU wrote when it adds checksums; continues its own writes',
  },
  finishedEarly: {
    upTo: '10.0.2',
    known: 'seen',
    summary:
      'reports completed before its clean-up: until then it refuses cont, and aborts in the next migration when multifd is switched off',
    workaround: 'waits until the threads of a migration have ended',
  },
  contWhileAsleep: {
    upTo: '10.0.2',
    known: 'seen',
    summary:
      'aborts on cont after a migration of a guest that is asleep (S3); 7.2.22 was seen to run it as if it were awake',
    workaround: 'leaves that guest asleep, and reports it',
  },
  runStates: {
    upTo: '10.0.2',
    known: 'seen',
    summary:
      'aborts (invalid runstate transition) when it is migrated in some run states, such as debug and save-vm; 7.2.22 too',
    workaround: 'refuses to save in these',
  },
  larger: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'loads a file into a VM with more memory or more CPUs than that of the file, without an error',
    workaround: 'refuses, and names both sizes',
  },
  truncated: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'SIGSEGV when it loads a truncated file with multifd',
    workaround: 'checks the file before QEMU sees it',
  },
  ignoreShared: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'saves with x-ignore-shared and mapped-ram what it cannot load; safe from 11.0 on, from source',
    workaround: 'reads such a file',
  },
  earlyPages: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'crashes on a page that comes through a multifd channel before its RAM is set up for a load',
    workaround: 'sends none before that',
  },
  endedChannel: {
    upTo: '10.0.2',
    known: 'seen',
    summary: 'waits for ever for the pages of a multifd channel that ended too early',
    workaround: 'ends the load after a while, with the reason why the channel ended',
  },
} as const satisfies Record<string, QemuFault>;
