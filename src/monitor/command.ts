import type { JsonObject } from '../json/json-value.js';
import type { QapiStruct, QapiType, QapiValue } from '../options/qapi.js';
import type { Lifetime } from '../options/qemu-profile.js';
import type { MonitorServices } from './monitor-services.js';

/** One QMP command: what it takes, what it gives, what it does. */
export interface Command<A extends QapiStruct = QapiStruct, S = MonitorServices> extends Lifetime {
  readonly name: string;
  readonly args: A;
  /** The result; absent for an empty object. */
  readonly returns?: QapiType;
  /** May run out of band, before commands that were sent earlier. */
  readonly outOfBand?: boolean;
  /** Takes over a descriptor that came with the request. */
  readonly takesDescriptor?: boolean;
  /**
   * Carries the command out. What it throws is answered as an error with the message as description; an `OptionError`
   * or `CommandError` carries QEMU's own text.
   */
  run(context: CommandContext<S>, args: QapiValue<A>): unknown;
}

export interface CommandContext<S = MonitorServices> {
  /** Of the monitor that serves the command, what its kind of command needs. */
  readonly monitor: S;
  /** The descriptor that came with the request; whoever takes it owns it. Undefined when none came. */
  takeDescriptor(): number | undefined;
  /** Tells a human what QEMU would print on its standard error or on the human monitor. */
  warn(line: string): void;
  /** The arguments as they came, for passing on. */
  readonly rawArguments: JsonObject;
}

/** For the commands that need the services `S`: keeps the link between the types of `args` and of `run`'s second parameter. */
export function commandFor<S>() {
  return <const A extends QapiStruct>(description: Command<A, S>): Command<QapiStruct, S> =>
    description as unknown as Command<QapiStruct, S>;
}

export const NO_ARGUMENTS = { kind: 'struct', members: {} } as const satisfies QapiStruct;
