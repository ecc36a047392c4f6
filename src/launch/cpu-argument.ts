/** The argument of `-cpu`: a model, and what is set on it. */
import { type CommandLineOption, commandLineOf } from './command-line.js';

export interface CpuArgument {
  model: string;
  /** Features that are switched on or off, and other properties as they stand: `avx2,-cx16,level=13`. */
  properties: { [name: string]: boolean | string };
}

/** Of a command line; undefined where it leaves the CPU to the machine. */
export function cpuArgument(options: readonly CommandLineOption[]): CpuArgument | undefined {
  const value = options.findLast(({ name }) => name === 'cpu')?.value;
  if (value === undefined) return undefined;
  const [model = '', ...parts] = value.split(',');
  return { model, properties: Object.fromEntries(parts.filter(Boolean).map(property)) };
}

/** Of a process on this host; undefined as well where it may not be looked at. */
export function cpuArgumentOf(pid: number): CpuArgument | undefined {
  const options = commandLineOf(pid);
  return options && cpuArgument(options);
}

function property(part: string): [string, boolean | string] {
  const [, sign = '', name = '', value] = /^([+-]?)([^=]*)(?:=(.*))?$/s.exec(part) ?? [];
  if (sign !== '') return [name, sign === '+'];
  if (value === undefined || value === 'on') return [name, true];
  return [name, value === 'off' ? false : value];
}
