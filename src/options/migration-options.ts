import type { JsonObject, JsonValue } from '../json/json-value.js';
import { platformHasDirectIo } from '../platform.js';
import { checkCapabilities } from './capability-check.js';
import {
  type CapabilityName,
  capabilitiesType,
  capabilityRow,
  defaultCapabilities,
  type MigrationCapabilities,
  servedCapabilities,
} from './migration-capabilities.js';
import {
  defaultParameters,
  type MigrationParameters,
  type ParameterName,
  parameterRow,
  parametersType,
  servedParameters,
} from './migration-parameters.js';
import { checkParameters } from './parameter-check.js';
import { checkQapi } from './qapi.js';
import { isAtLeast, type QemuProfile } from './qemu-profile.js';

export interface MigrationOptionsSetup {
  readonly profile: QemuProfile;
  /** Page size of the target in bytes; 4096 unless told otherwise. */
  readonly pageSize?: number;
  /** Whether the platform has O_DIRECT; asked of Node unless told otherwise. */
  readonly hasDirectIo?: boolean;
  /** Whether the accelerator has a dirty ring (KVM with `dirty-ring-size`); false unless told otherwise. */
  readonly hasDirtyRing?: boolean;
  /** Whether the rules between capabilities are left to a QEMU which is newer than the profile, and may have fewer; false by default. */
  readonly leavesRules?: boolean;
}

/** A capability, and whether it is or will be on. */
export interface CapabilityState {
  readonly capability: CapabilityName;
  readonly state: boolean;
}

/** The parameters and capabilities of one VM, changed only as QEMU would let them be changed. */
export class MigrationOptions {
  readonly profile: QemuProfile;
  readonly #pageSize: number;
  readonly #hasDirectIo: boolean;
  readonly #hasDirtyRing: boolean;
  /**
   * Whether a QEMU which is newer than the profile decides what goes together, and knows more options.
   *
   * @internal
   */
  readonly leavesRules: boolean;
  #parameters: Readonly<MigrationParameters>;
  #capabilities: Readonly<MigrationCapabilities>;

  constructor({ profile, pageSize, hasDirectIo, hasDirtyRing, leavesRules }: MigrationOptionsSetup) {
    this.profile = profile;
    this.#pageSize = pageSize ?? 4096;
    this.#hasDirectIo = hasDirectIo ?? platformHasDirectIo();
    this.#hasDirtyRing = hasDirtyRing ?? false;
    this.leavesRules = leavesRules ?? false;
    this.#parameters = Object.freeze(defaultParameters(profile));
    this.#capabilities = Object.freeze(defaultCapabilities());
  }

  /** A frozen snapshot: later changes make a new object. */
  get parameters(): Readonly<MigrationParameters> {
    return this.#parameters;
  }

  /** A frozen snapshot: later changes make a new object. */
  get capabilities(): Readonly<MigrationCapabilities> {
    return this.#capabilities;
  }

  /** Takes over values without any check: those that a VM has already, or those from before a change. */
  adopt(parameters: Partial<MigrationParameters>, capabilities: Partial<MigrationCapabilities>): void {
    this.#parameters = Object.freeze({ ...this.#parameters, ...parameters });
    this.#capabilities = Object.freeze({ ...this.#capabilities, ...capabilities });
  }

  /**
   * `migrate-set-parameters`: types first, then the ranges of the values as they would be afterwards; one bad value
   * and nothing changes.
   *
   * @param changes the JSON arguments, names as in QEMU
   * @throws OptionError with QEMU's text
   */
  setParameters(changes: JsonObject): void {
    this.applyParameters(checkQapi(parametersType(this.profile), changes) as JsonObject);
  }

  /**
   * The same of changes whose types have been checked.
   *
   * @internal
   */
  applyParameters(changes: JsonObject): void {
    const candidate: Record<string, unknown> = { ...this.#parameters };
    for (const [name, value] of Object.entries(changes)) {
      const { type, ignoredBefore } = parameterRow(name as ParameterName);
      if (ignoredBefore !== undefined && !isAtLeast(this.profile.release, ignoredBefore)) continue;
      candidate[name] = type.kind === 'str-or-null' ? (value ?? '') : value;
    }
    checkParameters(candidate as MigrationParameters, {
      profile: this.profile,
      current: this.#parameters,
      capabilities: this.#capabilities,
      pageSize: this.#pageSize,
      hasDirectIo: this.#hasDirectIo,
    });
    this.#parameters = Object.freeze(candidate as MigrationParameters);
  }

  /**
   * `migrate-set-capabilities`: the resulting set is checked as a whole; of a capability named twice the last wins.
   *
   * @param args the JSON arguments, `{capabilities: [{capability, state}]}`
   * @param warn told of every deprecated one in that set, also when the set is then refused
   * @throws OptionError with QEMU's text
   */
  setCapabilities(args: JsonObject, warn: (line: string) => void = () => {}): void {
    this.applyCapabilities(checkQapi(capabilitiesType(this.profile), args).capabilities, warn);
  }

  /**
   * The same of changes whose types have been checked.
   *
   * @internal
   */
  applyCapabilities(changes: readonly CapabilityState[], warn: (line: string) => void = () => {}): void {
    const candidate = { ...this.#capabilities };
    for (const { capability, state } of changes) candidate[capability] = state;
    for (const name of servedCapabilities(this.profile)) {
      const { deprecatedSince } = capabilityRow(name);
      if (candidate[name] && deprecatedSince && isAtLeast(this.profile.release, deprecatedSince)) {
        warn(`${name} capability is deprecated`);
      }
    }
    if (!this.leavesRules) {
      checkCapabilities(candidate, {
        profile: this.profile,
        parameters: this.#parameters,
        hasDirtyRing: this.#hasDirtyRing,
      });
    }
    this.#capabilities = Object.freeze(candidate);
  }

  /** The answer to `query-migrate-parameters`. */
  queryParameters(): JsonObject {
    const values: JsonObject = {};
    for (const name of servedParameters(this.profile)) {
      const value = this.#parameters[name];
      if (value !== undefined) values[name] = structuredClone(value) as JsonValue;
    }
    return values;
  }

  /** The answer to `query-migrate-capabilities`. */
  queryCapabilities(): CapabilityState[] {
    return servedCapabilities(this.profile).map((capability) => ({
      capability,
      state: this.#capabilities[capability],
    }));
  }
}
