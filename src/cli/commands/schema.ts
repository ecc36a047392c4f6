import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Argument } from 'commander';
import type { CommandOf } from '../command.js';

/** One for each command. `npm run schemas` makes them of the types in ../results.ts. */
const FOLDER = path.join(
  path.dirname(createRequire(import.meta.url).resolve('mapram/package.json')),
  'schemas',
);

export const schema: CommandOf<'schema'> = {
  name: 'schema',
  onlyAnswers: true,
  instant: true,
  summary: 'print the JSON Schema of what a command writes with --json',
  declare(command) {
    command.addArgument(new Argument('<command>', 'the command').choices(describedCommands())).addHelpText(
      'after',
      `
Examples:
  mapram schema save > save.schema.json
  mapram schema inspect | jq '.anyOf[].description'`,
    );
  },
  async run([name]) {
    const described = jsonSchema(String(name));
    return { fields: { schema: described }, text: JSON.stringify(described, null, 2) };
  },
};

export function describedCommands(): string[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .map((name) => path.basename(name, '.json'));
}

/** Every line is an object of its own that this schema takes. */
export function jsonSchema(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path.join(FOLDER, `${name}.json`), 'utf8'));
}
