/** Options that only a QEMU newer than any known has: the monitor in front of it passes them on. */
import type { JsonObject, JsonValue } from '../json/json-value.js';
import { servedCapabilities } from '../options/migration-capabilities.js';
import { servedParameters } from '../options/migration-parameters.js';
import { isJsonObject } from '../options/qapi.js';
import type { QemuProfile } from '../options/qemu-profile.js';

/**
 * Splits the arguments of `migrate-set-parameters` and `migrate-set-capabilities` into those of options that the profile has and those of
 * others. `unknown` is absent where there are none, and for every other command. What is no set of options at all counts as known.
 */
export function splitUnknownOptions(
  profile: QemuProfile,
  command: string,
  args: JsonObject,
): { known: JsonObject; unknown?: JsonObject } {
  if (command === 'migrate-set-parameters') {
    const served = new Set<string>(servedParameters(profile));
    const entries = Object.entries(args);
    const others = entries.filter(([name]) => !served.has(name));
    if (others.length === 0) return { known: args };
    return {
      known: Object.fromEntries(entries.filter(([name]) => served.has(name))),
      unknown: Object.fromEntries(others),
    };
  }
  const { capabilities } = args;
  if (command !== 'migrate-set-capabilities' || !Array.isArray(capabilities)) return { known: args };
  const served = new Set<JsonValue | undefined>(servedCapabilities(profile));
  const isOther = (state: JsonValue) =>
    isJsonObject(state) && typeof state.capability === 'string' && !served.has(state.capability);
  const others = capabilities.filter(isOther);
  if (others.length === 0) return { known: args };
  return {
    known: { ...args, capabilities: capabilities.filter((state) => !isOther(state)) },
    unknown: { capabilities: others },
  };
}
