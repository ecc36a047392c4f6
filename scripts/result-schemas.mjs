// Writes schemas/COMMAND.json, the JSON Schema of the lines that each command writes with --json, from the types in
// src/cli/results.ts.
//
//   node scripts/result-schemas.mjs [FOLDER]
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  createFormatter,
  createParser,
  createProgram,
  SchemaGenerator,
  StringType,
} from 'ts-json-schema-generator';

const root = path.dirname(import.meta.dirname);
const folder = path.resolve(root, process.argv[2] ?? 'schemas');
const config = {
  path: path.join(root, 'src/cli/results.ts'),
  tsconfig: path.join(root, 'tsconfig.build.json'),
  // `npm run compile` has done so, with a newer compiler.
  skipTypeCheck: true,
  expose: 'none',
  topRef: false,
  jsDoc: 'extended',
  additionalProperties: false,
};

/** Bytes are written as hexadecimal digits. */
const bytesParser = {
  supportsNode: (node) => node.typeName?.escapedText === 'Uint8Array',
  createType: () => new StringType(),
};
const program = createProgram(config);
const parser = createParser(program, config, (chain) => chain.addNodeParser(bytesParser));
const generator = new SchemaGenerator(program, parser, createFormatter(config), config);

const [results, ready, common] = ['Results', 'ReadyReports', 'CommonLines'].map(
  (name) => tidy(name, generator.createSchema(name)).properties,
);

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
for (const [name, result] of Object.entries(results)) {
  const line = (key, object, description) => ({
    ...object,
    description,
    properties: { [key]: { const: name }, ...object.properties },
    required: [key, ...(object.required ?? [])],
  });
  const schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `a line of mapram ${name.replace('store-', 'store ')} --json`,
    anyOf: [
      line('progress', common.progress, 'any number of times'),
      line('warning', common.warning, 'any number of times; on stderr as well'),
      ...(ready[name] === undefined
        ? []
        : [line('ready', ready[name], 'at most once, as soon as it can be used')]),
      ...(result.anyOf ?? [result]).map((one) => line('result', one, 'the last line')),
      {
        ...line('result', { type: 'object', additionalProperties: false }, 'the last line after a failure'),
        properties: { result: { const: name }, error: common.error },
        required: ['result', 'error'],
      },
    ],
  };
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(schema, null, 2)}\n`);
}

/** A schema with each description in one line. Numbers have to say what they count, by a type of src/units.ts. */
function tidy(place, schema) {
  if (Array.isArray(schema)) return schema.map((item, index) => tidy(`${place}[${index}]`, item));
  if (typeof schema !== 'object' || schema === null) return schema;
  for (const [name, { type, minimum }] of Object.entries(schema.properties ?? {}))
    if (type === 'number' && minimum === undefined)
      throw new Error(`${place}.${name} is a plain number: give it a type of src/units.ts`);
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [
      key,
      key === 'description' && typeof value === 'string'
        ? value.replaceAll(/\s+/g, ' ')
        : tidy(`${place}.${key}`, value),
    ]),
  );
}
