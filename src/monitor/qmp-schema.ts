/** The answer to `query-qmp-schema`, made from the descriptions of commands and events. */

import { defined } from '../defined.js';
import type { JsonObject } from '../json/json-value.js';
import { migrationStatuses } from '../options/migration-status.js';
import type { QapiFeature, QapiStruct, QapiType, QapiUnion } from '../options/qapi.js';
import type { QemuProfile } from '../options/qemu-profile.js';
import type { Command } from './command.js';

const JSON_TYPES = {
  int: 'int',
  bool: 'boolean',
  str: 'string',
  number: 'number',
  null: 'null',
  any: 'value',
} as const;

/** The events a monitor emits itself, with their data. */
export function servedEvents(profile: QemuProfile): { name: string; data: QapiStruct }[] {
  const integer = { kind: 'integer', width: 'int' } as const;
  const empty: QapiStruct = { kind: 'struct', members: {} };
  const status = { kind: 'enum', values: migrationStatuses(profile) } as const;
  return [
    { name: 'MIGRATION', data: { kind: 'struct', members: { status: { type: status } } } },
    { name: 'MIGRATION_PASS', data: { kind: 'struct', members: { pass: { type: integer } } } },
    { name: 'STOP', data: empty },
    { name: 'RESUME', data: empty },
    {
      name: 'SHUTDOWN',
      data: {
        kind: 'struct',
        members: { guest: { type: { kind: 'bool' } }, reason: { type: { kind: 'str' } } },
      },
    },
  ];
}

/**
 * @param prefix put before the made-up names of types, so that they differ from those of another schema
 */
export function qmpSchema(profile: QemuProfile, commands: readonly Command[], prefix = ''): JsonObject[] {
  const schema = new SchemaBuilder(prefix);
  for (const { name, args, returns, outOfBand } of commands) {
    schema.add({
      name,
      'meta-type': 'command',
      'arg-type': schema.nameOf(args),
      'ret-type': schema.nameOf(returns ?? { kind: 'struct', members: {} }),
      ...defined({ 'allow-oob': outOfBand || undefined }),
    });
  }
  for (const { name, data } of servedEvents(profile)) {
    schema.add({ name, 'meta-type': 'event', 'arg-type': schema.nameOf(data) });
  }
  return schema.entries;
}

function featuresOf(features: readonly QapiFeature[] = []): JsonObject {
  return defined({ features: features.length === 0 ? undefined : [...features] });
}

class SchemaBuilder {
  readonly entries: JsonObject[] = [];
  readonly #prefix: string;
  /** Names by the text of the entry without its name: equal types share one. */
  readonly #names = new Map<string, string>();
  readonly #builtins = new Set<string>();

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  add(entry: JsonObject): void {
    this.entries.push(entry);
  }

  nameOf(type: QapiType): string {
    switch (type.kind) {
      case 'integer':
        return this.#builtin('int');
      case 'bool':
      case 'str':
      case 'number':
      case 'any':
        return this.#builtin(type.kind);
      case 'str-or-null':
        return this.#define({
          'meta-type': 'alternate',
          members: [{ type: this.#builtin('str') }, { type: this.#builtin('null') }],
        });
      case 'enum':
        return this.#define({
          'meta-type': 'enum',
          members: type.values.map((name) => ({ name, ...featuresOf(type.features?.[name]) })),
          values: [...type.values],
        });
      case 'array': {
        const element = this.nameOf(type.of);
        const name = `[${element}]`;
        if (!this.#builtins.has(name)) {
          this.#builtins.add(name);
          this.add({ name, 'meta-type': 'array', 'element-type': element });
        }
        return name;
      }
      case 'struct':
        return this.#define({ 'meta-type': 'object', members: this.#members(type) });
      case 'union':
        return this.#defineUnion(type);
    }
  }

  #members({ members }: QapiStruct): JsonObject[] {
    return Object.entries(members).map(([name, { type, optional, unstable, deprecated }]) => ({
      name,
      type: this.nameOf(type),
      ...defined({ default: optional ? null : undefined }),
      ...featuresOf([
        ...(deprecated ? (['deprecated'] as const) : []),
        ...(unstable ? (['unstable'] as const) : []),
      ]),
    }));
  }

  #defineUnion({ tag, cases }: QapiUnion): string {
    const tagType = this.nameOf({ kind: 'enum', values: Object.keys(cases) });
    return this.#define({
      'meta-type': 'object',
      members: [{ name: tag, type: tagType }],
      tag,
      variants: Object.entries(cases).map(([name, type]) => ({ case: name, type: this.nameOf(type) })),
    });
  }

  #builtin(name: keyof typeof JSON_TYPES): string {
    if (!this.#builtins.has(name)) {
      this.#builtins.add(name);
      this.add({ name, 'meta-type': 'builtin', 'json-type': JSON_TYPES[name] });
    }
    return name;
  }

  #define(entry: JsonObject): string {
    const key = JSON.stringify(entry);
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const name = `${this.#prefix}${this.#names.size}`;
    this.#names.set(key, name);
    this.add({ name, ...entry });
    return name;
  }
}
