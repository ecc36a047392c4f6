import { toJsonSchema } from '@valibot/to-json-schema';
import { Argument } from 'commander';
import type { CommandDescription } from '../command.js';
import { DESCRIBED_COMMANDS, type DescribedCommand, lineSchema } from '../result-schemas.js';

export const schema: CommandDescription = {
  name: 'schema',
  onlyAnswers: true,
  instant: true,
  summary: 'print the JSON Schema of what a command writes with --json',
  declare(command) {
    command.addArgument(new Argument('<command>', 'the command').choices(DESCRIBED_COMMANDS)).addHelpText(
      'after',
      `
Examples:
  mapram schema save > save.schema.json
  mapram schema inspect | jq '.anyOf[].description'`,
    );
  },
  async run([name]) {
    const described = jsonSchema(name as DescribedCommand);
    return { fields: { schema: described }, text: JSON.stringify(described, null, 2) };
  },
};

/** Every line is an object of its own that this schema takes. */
export function jsonSchema(name: DescribedCommand): object {
  return {
    ...toJsonSchema(lineSchema(name), { target: 'draft-2020-12' }),
    title: `a line of mapram ${name.replace('store-', 'store ')} --json`,
  };
}
