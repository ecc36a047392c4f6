/** Migration parameters and capabilities of a VM, to read and to set over QMP. */

import { defined } from '../defined.js';
import type { PlainJson } from '../json/plain-json.js';
import { effectiveDirectIo } from '../options/direct-io.js';
import { MIGRATION_CAPABILITIES } from '../options/migration-capabilities.js';
import { MIGRATION_PARAMETERS, type ParameterRow } from '../options/migration-parameters.js';
import { RequestError } from './reply.js';
import type { VmConnection } from './vm-connection.js';

export interface MonitorState {
  readonly address: string;
  readonly version: string;
  readonly parameters: readonly ParameterState[];
  readonly capabilities: readonly MonitorCapability[];
  /** Whether a migration to a file would use direct I/O with these settings. */
  readonly directIo: boolean;
}

export interface ParameterState {
  readonly name: string;
  /** `fixed` ones are shown only: they have a structure that QMP alone can set. */
  readonly kind: 'boolean' | 'integer' | 'text' | 'choice' | 'fixed';
  /** Integers as digits: they may pass 2^53. */
  readonly value: string | boolean;
  readonly choices?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  readonly unit?: string;
  readonly summary?: string;
}

export interface MonitorCapability {
  readonly name: string;
  readonly state: boolean;
  readonly summary?: string;
}

/** Asks a monitor for its state. */
export async function readMonitor(address: string, connection: VmConnection): Promise<MonitorState> {
  const [parameters, capabilities] = await Promise.all([
    connection.execute('query-migrate-parameters'),
    connection.execute('query-migrate-capabilities'),
  ]);
  const values = isObject(parameters) ? parameters : {};
  const states = capabilityStates(capabilities);
  const isOn = (name: string) => states.some((capability) => capability.name === name && capability.state);
  return {
    address,
    version: connection.version,
    parameters: Object.entries(values).map(([name, value]) => describeParameter(name, value)),
    capabilities: states,
    directIo: effectiveDirectIo(
      { 'direct-io': values['direct-io'] === true },
      { 'mapped-ram': isOn('mapped-ram'), multifd: isOn('multifd') },
    ),
  };
}

/** Changes as the page sends them: values of parameters as text or boolean, states of capabilities. */
export interface MonitorChanges {
  readonly parameters?: Readonly<Record<string, string | boolean>> | undefined;
  readonly capabilities?: Readonly<Record<string, boolean>> | undefined;
}

/**
 * Sets capabilities first, then parameters, each all or none.
 *
 * @throws MapramError `QMP` with the monitor's own words, RequestError for what is no value at all
 */
export async function changeMonitor(
  address: string,
  connection: VmConnection,
  changes: MonitorChanges,
): Promise<MonitorState> {
  const capabilities = Object.entries(changes.capabilities ?? {}).map(([capability, state]) => ({
    capability,
    state,
  }));
  const { parameters } = await readMonitor(address, connection);
  const values = Object.entries(changes.parameters ?? {}).map(([name, value]) => {
    const parameter = parameters.find((candidate) => candidate.name === name);
    if (parameter === undefined) throw new RequestError(404, `the monitor has no parameter ${name}`);
    return [name, toQmp(parameter, value)] as const;
  });
  if (capabilities.length > 0) await connection.execute('migrate-set-capabilities', { capabilities });
  if (values.length > 0) await connection.execute('migrate-set-parameters', Object.fromEntries(values));
  return await readMonitor(address, connection);
}

function describeParameter(name: string, value: PlainJson): ParameterState {
  const row = rowOf(name);
  const about = {
    name,
    ...defined({ unit: row?.unit, summary: row?.summary }),
  };
  if (typeof value === 'boolean') return { ...about, kind: 'boolean', value };
  if (typeof value === 'number' || typeof value === 'bigint') {
    const { min, max } = row?.range ?? {};
    return {
      ...about,
      kind: 'integer',
      value: String(value),
      ...defined({ min, max }),
    };
  }
  if (typeof value !== 'string') return { ...about, kind: 'fixed', value: JSON.stringify(value) };
  if (row?.type.kind !== 'enum') return { ...about, kind: 'text', value };
  // A newer QEMU may have values that this table does not know.
  return { ...about, kind: 'choice', value, choices: [...new Set([...row.type.values, value])] };
}

function rowOf(name: string): ParameterRow | undefined {
  return Object.hasOwn(MIGRATION_PARAMETERS, name)
    ? MIGRATION_PARAMETERS[name as keyof typeof MIGRATION_PARAMETERS]
    : undefined;
}

function toQmp(parameter: ParameterState, value: string | boolean): PlainJson {
  const refuse = (expected: string) =>
    new RequestError(400, `${parameter.name} expects ${expected}, not ${JSON.stringify(value)}`);
  switch (parameter.kind) {
    case 'fixed':
      throw new RequestError(400, `${parameter.name} can be set over QMP only`);
    case 'boolean':
      if (typeof value !== 'boolean') throw refuse('on or off');
      return value;
    case 'integer':
      if (typeof value !== 'string' || !/^\d{1,20}$/.test(value)) throw refuse('a whole number');
      return BigInt(value);
    default:
      if (typeof value !== 'string') throw refuse('a text');
      return value;
  }
}

function capabilityStates(answer: PlainJson): MonitorCapability[] {
  if (!Array.isArray(answer)) return [];
  return answer.flatMap((item) => {
    if (!isObject(item) || typeof item.capability !== 'string') return [];
    const name = item.capability;
    const summary = Object.hasOwn(MIGRATION_CAPABILITIES, name)
      ? MIGRATION_CAPABILITIES[name as keyof typeof MIGRATION_CAPABILITIES].summary
      : undefined;
    return [{ name, state: item.state === true, ...defined({ summary }) }];
  });
}

function isObject(value: PlainJson): value is { [key: string]: PlainJson } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
