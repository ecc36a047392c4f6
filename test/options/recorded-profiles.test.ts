/** The profiles of QEMU 10.1 to 11.1 beside what real QEMUs of these versions answered, see recorded/README.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { migrationCommands } from '../../src/monitor/commands/migration.js';
import { optionCommands } from '../../src/monitor/commands/options.js';
import { qmpSchema } from '../../src/monitor/qmp-schema.js';
import { servedCapabilities } from '../../src/options/migration-capabilities.js';
import { MigrationOptions } from '../../src/options/migration-options.js';
import { parametersReply, parametersType, parameterType } from '../../src/options/migration-parameters.js';
import { migrationStatuses } from '../../src/options/migration-status.js';
import type { QapiMember, QapiStruct, QapiType } from '../../src/options/qapi.js';
import {
  PROFILE_NAMES,
  type ProfileName,
  profileForVersion,
  qemuProfile,
} from '../../src/options/qemu-profile.js';
import { repositoryRoot } from '../support/environment.js';

interface Recorded {
  readonly enums: Record<string, { name: string; features?: string[] }[]>;
  readonly [type: string]: unknown;
}

interface Member {
  readonly name: string;
  readonly type: string;
  readonly optional?: boolean;
  readonly features?: string[];
}

const VERSIONS = ['10.1', '10.2', '11.0', '11.1'] as const satisfies ProfileName[];

function recorded(version: string): Recorded {
  const file = path.join(repositoryRoot, 'test', 'options', 'recorded', `qemu-${version}.json`);
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Types as the recordings name them. Structures and enumerations are compared by themselves. */
function typeName(type: QapiType): string {
  if (type.kind === 'integer') return 'int';
  if (type.kind === 'array') return `[${typeName(type.of)}]`;
  return type.kind === 'str-or-null' ? 'StrOrNull' : type.kind;
}

function membersOf({ members }: QapiStruct): Member[] {
  return Object.entries(members).map(([name, { type, optional, unstable, deprecated }]) => ({
    name,
    type: typeName(type),
    ...(optional ? { optional } : {}),
    ...(unstable || deprecated ? { features: [unstable ? 'unstable' : 'deprecated'] } : {}),
  }));
}

/** Names of QEMU's own types become the kind that they are of. */
function asKinds(members: Member[], enums: Recorded['enums']): Member[] {
  return members.map((member) => {
    const bare = member.type.replace(/^\[|\]$/g, '');
    const kind = bare in enums ? 'enum' : /^[A-Z]/.test(bare) && bare !== 'StrOrNull' ? 'struct' : bare;
    return { ...member, type: member.type.startsWith('[') ? `[${kind}]` : kind };
  });
}

for (const version of VERSIONS) {
  describe(`QEMU ${version}`, () => {
    const profile = qemuProfile(version);
    const real = recorded(version);
    const commands = new Map(migrationCommands(profile).map((command) => [command.name, command]));
    const compare = (actual: QapiType | undefined, name: string, without: readonly string[] = []) => {
      assert.equal(actual?.kind, 'struct');
      const expected = asKinds(real[name] as Member[], real.enums).filter(
        (member) => !without.includes(member.name),
      );
      const served = membersOf(actual as QapiStruct).map((member) =>
        // Addresses are unions here, and objects with a tag in a schema.
        ({ ...member, type: member.type.replace('union', 'struct') }),
      );
      assert.deepEqual(served, expected);
    };

    test('the words for the status, in their order', () => {
      const words = real.enums.MigrationStatus?.map(({ name }) => name) ?? [];
      // The recording of 10.2 was made before this word was added; 11.0 has it at the same place.
      if (version === '10.2') words.splice(words.indexOf('postcopy-active'), 0, 'postcopy-device');
      assert.deepEqual(migrationStatuses(profile), words);
    });

    test('capabilities with their features', () => {
      const schema = qmpSchema(profile, optionCommands(profile));
      const names = servedCapabilities(profile);
      const entry = schema.find(
        ({ values }) =>
          Array.isArray(values) && values.length === names.length && values.includes('mapped-ram'),
      );
      assert.deepEqual(entry?.members, real.enums.MigrationCapability);
    });

    test('the reply to query-migrate-capabilities has each capability in the order of the enumeration, all off', () => {
      const names = real.enums.MigrationCapability?.map(({ name }) => name) ?? [];
      assert.ok(names.length > 0);
      assert.deepEqual(
        new MigrationOptions({ profile }).queryCapabilities(),
        names.map((capability) => ({ capability, state: false })),
      );
    });

    test('enumerations of parameters', () => {
      for (const [name, type] of [
        ['multifd-compression', 'MultiFDCompression'],
        ['mode', 'MigMode'],
        ['zero-page-detection', 'ZeroPageDetection'],
      ] as const) {
        const values = real.enums[type]?.map((value) => value.name);
        assert.deepEqual(parameterType(profile, name), { kind: 'enum', values }, name);
      }
    });

    test('parameters to set and in the reply', () => {
      compare(parametersType(profile), 'migrate-set-parameters');
      compare(parametersReply(profile), 'query-migrate-parameters');
    });

    test('arguments of migrate and migrate-incoming', () => {
      compare(commands.get('migrate')?.args, 'migrate');
      compare(commands.get('migrate-incoming')?.args, 'migrate-incoming');
    });

    test('the reply to query-migrate, but for statistics of other kinds of migration', () => {
      const info = commands.get('query-migrate')?.returns as QapiStruct;
      compare(info, 'query-migrate', ['vfio', 'xbzrle-cache']);
      compare((info.members.ram as QapiMember).type, 'MigrationRAMInfo');
    });
  });
}

test('a QEMU newer than the newest profile is taken as that', () => {
  assert.equal(profileForVersion(11, 2).name, '11.1');
  assert.equal(profileForVersion(12, 0).name, '11.1');
  assert.equal(profileForVersion(10, 1).name, '10.1');
  assert.equal(PROFILE_NAMES.at(-1), '11.1');
});
