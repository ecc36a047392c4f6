/** Which capabilities go together: QEMU's rules, in the order in which it applies them to the whole new set. */
import type { CapabilityName, MigrationCapabilities } from './migration-capabilities.js';
import type { MigrationParameters } from './migration-parameters.js';
import { OptionError } from './option-error.js';
import { existsIn, type Lifetime, type QemuProfile } from './qemu-profile.js';

export interface CapabilityCheckContext {
  readonly profile: QemuProfile;
  readonly parameters: MigrationParameters;
  /** Whether the accelerator has a dirty ring, which `dirty-limit` needs. */
  readonly hasDirtyRing: boolean;
}

interface CapabilityRule extends Lifetime {
  readonly broken: (capabilities: MigrationCapabilities, context: CapabilityCheckContext) => boolean;
  readonly text: string;
}

/** In the order in which QEMU looks for them. */
const NOT_WITH_BACKGROUND_SNAPSHOT: readonly CapabilityName[] = [
  'postcopy-ram',
  'dirty-bitmaps',
  'postcopy-blocktime',
  'late-block-activate',
  'return-path',
  'multifd',
  'pause-before-switchover',
  'auto-converge',
  'release-ram',
  'rdma-pin-all',
  'compress',
  'xbzrle',
  'x-colo',
  'validate-uuid',
  'zero-copy-send',
];

const ZERO_COPY_TEXT = 'Zero copy only available for non-compressed non-TLS multifd migration';

const RULES: readonly CapabilityRule[] = [
  {
    broken: (on) => on['postcopy-ram'] && on['x-ignore-shared'],
    text: 'Postcopy is not compatible with ignore-shared',
  },
  {
    since: [8, 1],
    // Its commit was merged in May 2025, between 10.0 and 10.1.
    until: [10, 1],
    broken: (on) => on['postcopy-ram'] && on.multifd,
    text: 'Postcopy is not yet compatible with multifd',
  },
  ...NOT_WITH_BACKGROUND_SNAPSHOT.map(
    (name): CapabilityRule => ({
      broken: (on) => on['background-snapshot'] && on[name],
      text: `Background-snapshot is not compatible with ${name}`,
    }),
  ),
  {
    broken: (on, { parameters }) =>
      on['zero-copy-send'] &&
      (!on.multifd ||
        on.compress ||
        on.xbzrle ||
        parameters['multifd-compression'] !== 'none' ||
        parameters['tls-creds'] !== ''),
    text: ZERO_COPY_TEXT,
  },
  {
    broken: (on) => on['postcopy-preempt'] && !on['postcopy-ram'],
    text: 'Postcopy preempt requires postcopy-ram',
  },
  {
    since: [8, 1],
    broken: (on) => on['switchover-ack'] && !on['return-path'],
    text: "Capability 'switchover-ack' requires capability 'return-path'",
  },
  {
    since: [8, 1],
    broken: (on) => on['dirty-limit'] && on['auto-converge'],
    text: 'dirty-limit conflicts with auto-converge either of then available currently',
  },
  {
    since: [8, 1],
    broken: (on, { hasDirtyRing }) => on['dirty-limit'] && !hasDirtyRing,
    text: "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set",
  },
  {
    since: [8, 1],
    broken: (on) => on.multifd && on.xbzrle,
    text: 'Multifd is not compatible with xbzrle',
  },
  {
    until: [9, 1],
    broken: (on) => on.multifd && on.compress,
    text: 'Multifd is not compatible with compress',
  },
  {
    broken: (on) => on['mapped-ram'] && on.xbzrle,
    text: 'Mapped-ram migration is incompatible with xbzrle',
  },
  {
    until: [9, 1],
    broken: (on) => on['mapped-ram'] && on.compress,
    text: 'Mapped-ram migration is incompatible with compression',
  },
  {
    broken: (on) => on['mapped-ram'] && on['postcopy-ram'],
    text: 'Mapped-ram migration is incompatible with postcopy',
  },
];

/** @throws OptionError with the text of the first rule that the set breaks */
export function checkCapabilities(
  capabilities: MigrationCapabilities,
  context: CapabilityCheckContext,
): void {
  for (const rule of RULES) {
    if (existsIn(context.profile, rule) && rule.broken(capabilities, context)) {
      throw new OptionError(rule.text);
    }
  }
}
