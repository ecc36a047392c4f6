import { ByteBuilder } from './byte-builder.js';
import { SectionType } from './format.js';

/**
 * The CONFIGURATION part of a stream, sent right after the version.
 *
 * ```text
 * 07
 * be32 length, machine name
 * 05 str8 "configuration/target-page-bits"  be32 1  be32 bits                        where page size varies
 * 05 str8 "configuration/capabilities"      be32 1  be32 count, count * str8 name    when any is on
 * 05 str8 "configuration/uuid"              be32 1  16 bytes                         with validate-uuid
 * ```
 */
export interface StreamConfiguration {
  /** The versioned machine type, e.g. `pc-i440fx-10.0`. */
  machine: string;
  /** log2 of the target page size; absent where it is the target's smallest or cannot vary. */
  targetPageBits?: number;
  /** Capabilities that both sides must agree on: of QEMU's only `x-ignore-shared` and `mapped-ram`. */
  capabilities: string[];
  /** 16 raw bytes. */
  uuid?: Uint8Array;
}

export const ConfigurationSubsection = {
  TARGET_PAGE_BITS: 'configuration/target-page-bits',
  CAPABILITIES: 'configuration/capabilities',
  UUID: 'configuration/uuid',
} as const;

export const CONFIGURATION_SUBSECTION_PREFIX = 'configuration/';

/** The bytes of `configuration`, the type byte included, subsections in QEMU's order. */
export function encodeConfiguration(configuration: StreamConfiguration): Uint8Array {
  const machine = new TextEncoder().encode(configuration.machine);
  const builder = new ByteBuilder().uint8(SectionType.CONFIGURATION).uint32(machine.byteLength).raw(machine);
  const subsection = (name: string) => builder.uint8(SectionType.SUBSECTION).str8(name).uint32(1);
  if (configuration.targetPageBits !== undefined) {
    subsection(ConfigurationSubsection.TARGET_PAGE_BITS).uint32(configuration.targetPageBits);
  }
  if (configuration.capabilities.length > 0) {
    subsection(ConfigurationSubsection.CAPABILITIES).uint32(configuration.capabilities.length);
    for (const capability of configuration.capabilities) builder.str8(capability);
  }
  if (configuration.uuid !== undefined) {
    if (configuration.uuid.byteLength !== 16) {
      throw new RangeError(`a uuid has 16 bytes, not ${configuration.uuid.byteLength}`);
    }
    subsection(ConfigurationSubsection.UUID).raw(configuration.uuid);
  }
  return builder.finish();
}
