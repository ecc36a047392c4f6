/**
 * Migration parameters and capabilities, as each QEMU version knows them.
 *
 * @module mapram/options
 */

export { effectiveDirectIo } from './direct-io.js';
export {
  type CapabilityName,
  defaultCapabilities,
  MIGRATION_CAPABILITIES,
  type MigrationCapabilities,
} from './migration-capabilities.js';
export { type CapabilityState, MigrationOptions } from './migration-options.js';
export {
  defaultParameters,
  MIGRATION_PARAMETERS,
  type MigrationParameters,
  type ParameterName,
} from './migration-parameters.js';
export { type ProfileName, type QemuProfile, qemuProfile } from './qemu-profile.js';
