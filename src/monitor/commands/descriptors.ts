/** Descriptors over QMP: passed in as ancillary data of the request itself. */

import { closeSync } from 'node:fs';
import type { QapiStruct } from '../../options/qapi.js';
import { type Command, type CommandContext, commandFor, NO_ARGUMENTS } from '../command.js';
import { CommandError } from '../command-error.js';
import type { DescriptorServices } from '../monitor-services.js';

const command = commandFor<DescriptorServices>();

const str = { kind: 'str' } as const;
const integer = { kind: 'integer', width: 'int' } as const;

export function descriptorCommands(): Command<QapiStruct, DescriptorServices>[] {
  return [
    command({
      name: 'add-fd',
      takesDescriptor: true,
      args: {
        kind: 'struct',
        members: { 'fdset-id': { type: integer, optional: true }, opaque: { type: str, optional: true } },
      },
      returns: { kind: 'struct', members: { 'fdset-id': { type: integer }, fd: { type: integer } } },
      run: (context, { 'fdset-id': id, opaque }) => {
        const fd = requireDescriptor(context);
        if (id !== undefined && id < 0) {
          closeSync(fd);
          throw new CommandError("Parameter 'fdset-id' expects a non-negative value");
        }
        return context.monitor.addFd(
          fd,
          id === undefined ? undefined : Number(id),
          opaque,
          context.rawArguments,
        );
      },
    }),
    command({
      name: 'remove-fd',
      args: {
        kind: 'struct',
        members: { 'fdset-id': { type: integer }, fd: { type: integer, optional: true } },
      },
      run: ({ monitor, rawArguments }, { 'fdset-id': id, fd }) =>
        monitor.removeFd(Number(id), fd === undefined ? undefined : Number(fd), rawArguments),
    }),
    command({
      name: 'query-fdsets',
      args: NO_ARGUMENTS,
      returns: {
        kind: 'array',
        of: {
          kind: 'struct',
          members: {
            'fdset-id': { type: integer },
            fds: {
              type: {
                kind: 'array',
                of: {
                  kind: 'struct',
                  members: { fd: { type: integer }, opaque: { type: str, optional: true } },
                },
              },
            },
          },
        },
      },
      run: ({ monitor }) => monitor.queryFdsets(),
    }),
    command({
      name: 'getfd',
      takesDescriptor: true,
      args: { kind: 'struct', members: { fdname: { type: str } } },
      run: (context, { fdname }) => {
        const fd = requireDescriptor(context);
        if (/^\d/.test(fdname)) {
          closeSync(fd);
          throw new CommandError("Parameter 'fdname' expects a name not starting with a digit");
        }
        return context.monitor.getFd(fd, fdname, context.rawArguments);
      },
    }),
    command({
      name: 'closefd',
      args: { kind: 'struct', members: { fdname: { type: str } } },
      run: ({ monitor, rawArguments }, { fdname }) => monitor.closeFd(fdname, rawArguments),
    }),
  ];
}

function requireDescriptor(context: CommandContext<DescriptorServices>): number {
  const fd = context.takeDescriptor();
  if (fd === undefined) throw new CommandError('No file descriptor supplied via SCM_RIGHTS');
  return fd;
}
