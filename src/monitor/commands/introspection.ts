/** What the monitor says of itself. */
import type { QapiStruct } from '../../options/qapi.js';
import { type Command, commandFor, NO_ARGUMENTS } from '../command.js';
import type { IntrospectionServices } from '../monitor-services.js';

const command = commandFor<IntrospectionServices>();

const str = { kind: 'str' } as const;
const integer = { kind: 'integer', width: 'int' } as const;

export function introspectionCommands(): Command<QapiStruct, IntrospectionServices>[] {
  return [
    command({
      name: 'query-version',
      args: NO_ARGUMENTS,
      returns: {
        kind: 'struct',
        members: {
          qemu: {
            type: {
              kind: 'struct',
              members: { major: { type: integer }, minor: { type: integer }, micro: { type: integer } },
            },
          },
          package: { type: str },
        },
      },
      run: ({ monitor }) => monitor.backend.version,
    }),
    command({
      name: 'query-commands',
      args: NO_ARGUMENTS,
      returns: { kind: 'array', of: { kind: 'struct', members: { name: { type: str } } } },
      run: ({ monitor }) => monitor.queryCommands(),
    }),
    command({
      name: 'query-qmp-schema',
      args: NO_ARGUMENTS,
      returns: { kind: 'array', of: { kind: 'any' } },
      run: ({ monitor }) => monitor.queryQmpSchema(),
    }),
  ];
}
