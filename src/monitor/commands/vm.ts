/** The VM itself over QMP. */
import type { QapiMember, QapiStruct } from '../../options/qapi.js';
import { isAtLeast, type QemuProfile } from '../../options/qemu-profile.js';
import { type Command, commandFor, NO_ARGUMENTS } from '../command.js';
import type { VmServices } from '../monitor-services.js';

const command = commandFor<VmServices>();

const str = { kind: 'str' } as const;
const bool = { kind: 'bool' } as const;
const integer = { kind: 'integer', width: 'int' } as const;

const RUN_STATES = [
  'debug',
  'inmigrate',
  'internal-error',
  'io-error',
  'paused',
  'postmigrate',
  'prelaunch',
  'finish-migrate',
  'restore-vm',
  'running',
  'save-vm',
  'shutdown',
  'suspended',
  'watchdog',
  'guest-panicked',
  'colo',
];

export function vmCommands(profile: QemuProfile): Command<QapiStruct, VmServices>[] {
  const singlestep: Record<string, QapiMember> = isAtLeast(profile.release, [9, 0])
    ? {}
    : { singlestep: { type: bool } };
  return [
    command({ name: 'stop', args: NO_ARGUMENTS, run: ({ monitor }) => monitor.backend.stop() }),
    command({ name: 'cont', args: NO_ARGUMENTS, run: ({ monitor }) => monitor.backend.cont() }),
    command({ name: 'quit', args: NO_ARGUMENTS, run: ({ monitor }) => monitor.quit() }),
    command({
      name: 'query-status',
      args: NO_ARGUMENTS,
      returns: {
        kind: 'struct',
        members: {
          running: { type: bool },
          ...singlestep,
          status: { type: { kind: 'enum', values: RUN_STATES } },
        },
      },
      run: ({ monitor }) => monitor.backend.vmStatus(),
    }),
    command({
      name: 'human-monitor-command',
      args: {
        kind: 'struct',
        members: { 'command-line': { type: str }, 'cpu-index': { type: integer, optional: true } },
      },
      returns: str,
      run: ({ monitor, rawArguments }, { 'command-line': line }) =>
        monitor.runHumanCommand(line, rawArguments),
    }),
  ];
}
