/**
 * Every migration capability that QEMU 7.2 to 11.1 knows, one row each, in the order in which QEMU lists them.
 */
import type { QapiFeature, QapiType } from './qapi.js';
import { isAtLeast, isServed, type Lifetime, type QemuProfile } from './qemu-profile.js';

export interface CapabilityRow extends Lifetime {
  /** One line for the documentation. */
  readonly summary: string;
  readonly unstable?: boolean;
  /** From which release on QEMU warns as long as it is on. */
  readonly deprecatedSince?: readonly [number, number];
}

export const MIGRATION_CAPABILITIES = {
  xbzrle: { summary: 'Send only what changed in a page that was sent before.' },
  'rdma-pin-all': { summary: 'Pin all memory for RDMA.' },
  'auto-converge': { summary: 'Throttle the guest when it dirties memory faster than it is sent.' },
  'zero-blocks': { summary: 'Send blocks of zeroes short.', deprecatedSince: [9, 2], until: [11, 0] },
  compress: { summary: 'The old compression in one stream.', until: [9, 1] },
  events: { summary: 'Emit MIGRATION and MIGRATION_PASS events.' },
  'postcopy-ram': { summary: 'Let the destination run before all memory is there.' },
  'x-colo': { summary: 'Keep a second machine in step (COLO).', unstable: true },
  'release-ram': { summary: 'Give memory back once it was sent.' },
  block: { summary: 'The old migration of disks.', until: [9, 1] },
  'return-path': { summary: 'Let the destination talk back.' },
  'pause-before-switchover': { summary: 'Stop in state pre-switchover and wait for migrate-continue.' },
  multifd: { summary: 'Move pages through several channels at once.' },
  'dirty-bitmaps': { summary: 'Send dirty bitmaps of block nodes.' },
  'postcopy-blocktime': { summary: 'Measure how long virtual CPUs wait for pages.' },
  'late-block-activate': { summary: 'Activate disks on the destination only with cont.' },
  'x-ignore-shared': { summary: 'Leave out memory that both sides share.', unstable: true },
  'validate-uuid': { summary: 'Send the UUID of the machine, and refuse another one.' },
  'background-snapshot': { summary: 'Save the moment of the start while the guest runs on.' },
  'zero-copy-send': { summary: 'Send without copying into the kernel.' },
  'postcopy-preempt': { summary: 'A channel of its own for urgent pages.' },
  'switchover-ack': { summary: 'Wait for the consent of the destination.', since: [8, 1] },
  'dirty-limit': { summary: 'Limit the dirty page rate of each virtual CPU.', since: [8, 1] },
  'mapped-ram': { summary: 'Give every page a fixed place in the file.', since: [9, 0] },
} as const satisfies Record<string, CapabilityRow>;

export type CapabilityName = keyof typeof MIGRATION_CAPABILITIES;

/** Which capabilities are on. Always complete, whatever the profile shows. */
export type MigrationCapabilities = Record<CapabilityName, boolean>;

export const CAPABILITY_NAMES = Object.keys(MIGRATION_CAPABILITIES) as CapabilityName[];

export function capabilityRow(name: CapabilityName): CapabilityRow {
  return MIGRATION_CAPABILITIES[name];
}

/** The capabilities a profile serves, in QEMU's order. */
export function servedCapabilities(profile: QemuProfile): CapabilityName[] {
  return CAPABILITY_NAMES.filter((name) => isServed(profile, name, capabilityRow(name)));
}

/** The names a profile serves, with their features. */
export function capabilityType(profile: QemuProfile) {
  const features = Object.fromEntries(
    CAPABILITY_NAMES.map((name) => [name, capabilityFeatures(profile, capabilityRow(name))]),
  );
  return { kind: 'enum', values: servedCapabilities(profile), features } as const satisfies QapiType;
}

function capabilityFeatures(
  profile: QemuProfile,
  { unstable, deprecatedSince }: CapabilityRow,
): QapiFeature[] {
  const deprecated = deprecatedSince !== undefined && isAtLeast(profile.release, deprecatedSince);
  return [...(unstable ? (['unstable'] as const) : []), ...(deprecated ? (['deprecated'] as const) : [])];
}

/** The argument of `migrate-set-capabilities` in a profile. */
export function capabilitiesType(profile: QemuProfile) {
  return {
    kind: 'struct',
    members: {
      capabilities: {
        type: {
          kind: 'array',
          of: {
            kind: 'struct',
            members: {
              capability: { type: capabilityType(profile) },
              state: { type: { kind: 'bool' } },
            },
          },
        },
      },
    },
  } as const satisfies QapiType;
}

export function defaultCapabilities(): MigrationCapabilities {
  return Object.fromEntries(CAPABILITY_NAMES.map((name) => [name, false])) as MigrationCapabilities;
}
