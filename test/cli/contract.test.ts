/** What scripts rely on: commands, options and result fields stay. New ones may come. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CommandName } from '../../src/cli/command.js';
import { commandTree } from '../../src/cli/command-tree.js';
import { jsonSchema } from '../../src/cli/commands/schema.js';
import { createProgram } from '../../src/cli/program.js';
import { allCommands } from '../../src/cli/registry.js';

interface Contract {
  arguments: string[];
  options: string[];
  /** Members of the result, where the VM or the file has them; `a.b` is a member of each element of the array `a`. */
  fields: string[];
}

const clone = ['vms.pid', 'vms.qmp', 'vms.loadTimeMs', 'vms.totalTimeMs', 'totalTimeMs'];

const CONTRACT: Readonly<Partial<Record<CommandName, Contract>>> = {
  save: {
    arguments: ['vm', 'file'],
    options: [
      ...['--direct-io', '--channels', '--method', '--live', '--background', '--then', '--force'],
      '--no-checksums',
    ],
    fields: [
      ...['file', 'method', 'directIo', 'directIoReason', 'channels', 'ramBytes', 'normalPages'],
      ...['duplicatePages', 'normalBytes', 'fileBytes', 'allocatedBytes', 'totalTimeMs', 'downtimeMs'],
      ...['synced', 'qemuVersion'],
    ],
  },
  restore: {
    arguments: ['file', 'vm'],
    options: ['--direct-io', '--channels', '--cont'],
    fields: ['totalTimeMs', 'directIo', 'channels', 'normalPages'],
  },
  resume: { arguments: ['file', 'qemu'], options: ['--qmp', '--paused', '--detach'], fields: clone },
  fork: {
    arguments: ['file', 'qemu'],
    options: ['--count', '--dir', '--paused', '--detach'],
    fields: clone,
  },
  inspect: {
    arguments: ['file'],
    options: ['--devices', '--map'],
    fields: [
      ...['container', 'machine', 'capabilities', 'pageSize', 'complete', 'devices', 'manifest'],
      ...['blocks.idstr', 'blocks.usedLength', 'blocks.pagesOffset', 'blocks.bitmapOffset'],
      ...['blocks.normalPages', 'blocks.stalePages'],
    ],
  },
  verify: {
    arguments: ['file'],
    options: [],
    fields: ['ok', 'problems.kind', 'problems.where', 'problems.message', 'checkedBytes'],
  },
  diff: { arguments: ['before', 'after'], options: [], fields: ['equal', 'differentPages', 'devices'] },
  convert: { arguments: ['in', 'out'], options: ['--to', '--block'], fields: ['output', 'to', 'files.file'] },
  monitor: { arguments: ['vm'], options: ['--qmp', '--hmp'], fields: [] },
  demo: { arguments: ['directory'], options: [], fields: [] },
  doctor: { arguments: ['directory'], options: [], fields: ['qemus', 'host'] },
};

const { commands } = commandTree(createProgram(await allCommands()));

for (const [name, contract] of Object.entries(CONTRACT)) {
  describe(name, () => {
    const command = commands.find((candidate) => candidate.name === name);

    test('takes its arguments and options', () => {
      assert.ok(command, 'there is no command');
      assert.deepEqual(
        command.arguments.map((argument) => argument.name),
        contract.arguments,
      );
      const options = command.options.map(({ long }) => long);
      assert.deepEqual(
        [...contract.options, '--json'].filter((option) => !options.includes(option)),
        [],
      );
    });

    test('gives its result fields', () => {
      const missing = contract.fields.filter(
        (field) => !resultsOf(name).some((result) => has(result, field.split('.'))),
      );
      assert.deepEqual(missing, []);
    });
  });
}

describe('offsets are bytes, a size or hexadecimal', async () => {
  const program = createProgram(await allCommands());
  const all = [program, ...program.commands].flatMap((command) => [command, ...command.commands]);
  const options = all.flatMap((command) =>
    command.options
      .filter(({ long }) => long?.startsWith('--offset'))
      .map((option) => ({ name: `${command.name()} ${option.long}`, option })),
  );
  assert.ok(options.length >= 8, 'the options for offsets are not found');
  for (const { name, option } of options) {
    test(name, () => {
      const parse = (text: string) => option.parseArg?.(text, undefined);
      assert.equal(parse('4660'), 4660);
      assert.equal(parse('64K'), 65_536);
      assert.equal(parse('0x1234'), 0x1234);
      assert.throws(() => parse('one'), /Expected an offset/);
    });
  }
});

test('every command has examples in its help', () => {
  assert.deepEqual(
    commands.filter(({ notes, name }) => !/^Examples:\n {2}\S/m.test(notes) && name !== 'help'),
    [],
  );
});

interface Schema {
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  items?: Schema;
}

/** The schemas of results that are no failure. */
function resultsOf(name: string): Schema[] {
  const { anyOf = [] } = jsonSchema(name) as Schema;
  return anyOf.filter(({ properties = {} }) => 'result' in properties && !('error' in properties));
}

function has({ properties = {} }: Schema, [member = '', ...more]: string[]): boolean {
  const schema = properties[member];
  return (
    schema !== undefined && (more.length === 0 || (schema.items !== undefined && has(schema.items, more)))
  );
}
