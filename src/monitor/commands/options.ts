/** Parameters and capabilities over QMP. */
import type { JsonObject } from '../../json/json-value.js';
import { capabilitiesType, capabilityType } from '../../options/migration-capabilities.js';
import { parametersReply, parametersType } from '../../options/migration-parameters.js';
import type { QapiStruct } from '../../options/qapi.js';
import type { QemuProfile } from '../../options/qemu-profile.js';
import { type Command, commandFor, NO_ARGUMENTS } from '../command.js';
import type { OptionServices } from '../monitor-services.js';

const command = commandFor<OptionServices>();

export function optionCommands(profile: QemuProfile): Command<QapiStruct, OptionServices>[] {
  return [
    command({
      name: 'migrate-set-parameters',
      args: parametersType(profile),
      run: ({ monitor }, changes) => monitor.setParameters(changes as JsonObject),
    }),
    command({
      name: 'query-migrate-parameters',
      args: NO_ARGUMENTS,
      returns: parametersReply(profile),
      run: ({ monitor }) => monitor.options.queryParameters(),
    }),
    command({
      name: 'migrate-set-capabilities',
      args: capabilitiesType(profile),
      run: ({ monitor, warn }, { capabilities }) => monitor.setCapabilities(capabilities, warn),
    }),
    command({
      name: 'query-migrate-capabilities',
      args: NO_ARGUMENTS,
      returns: { kind: 'array', of: capabilityStatus(profile) },
      run: ({ monitor }) => monitor.options.queryCapabilities(),
    }),
  ];
}

function capabilityStatus(profile: QemuProfile): QapiStruct {
  return {
    kind: 'struct',
    members: {
      capability: { type: capabilityType(profile) },
      state: { type: { kind: 'bool' } },
    },
  };
}
