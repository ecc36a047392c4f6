/** Migration parameters as the human monitor reads and prints them. */
import { type JsonObject, type JsonValue, toJsonInteger } from '../json/json-value.js';
import {
  type BitmapMapping,
  type MigrationParameters,
  type ParameterName,
  type ParameterRow,
  parameterRow,
  parameterType,
  servedParameters,
} from './migration-parameters.js';
import { OptionError } from './option-error.js';
import { isAtLeast, type QemuProfile } from './qemu-profile.js';
import { parseIntegerText, parseSizeText } from './size-text.js';

/** Lines that say more, printed after the error itself. */
const SIZE_HINT = [
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-',
  'and exabytes, respectively.',
].join('\n');

const TRUE_WORDS = new Set(['on', 'yes', 'true', 'y']);
const FALSE_WORDS = new Set(['off', 'no', 'false', 'n']);

/** What HMP holds in a signed number must not pass this. */
const SIGNED_MAX = 2n ** 63n - 1n;

/**
 * `migrate_set_parameter NAME VALUE` as the JSON arguments of `migrate-set-parameters`.
 *
 * @throws OptionError with QEMU's text
 */
export function parseParameterText(profile: QemuProfile, name: string, value: string): JsonObject {
  const known = servedParameters(profile).find((served) => served === name);
  if (known === undefined) throw new OptionError(`invalid parameter value: ${name}`);
  return { [known]: parseWord(profile, known, value) };
}

function parseWord(profile: QemuProfile, name: ParameterName, word: string): JsonValue {
  const row = parameterRow(name);
  const type = parameterType(profile, name);
  switch (type.kind) {
    case 'bool':
      if (TRUE_WORDS.has(word)) return true;
      if (FALSE_WORDS.has(word)) return false;
      throw new OptionError(`Parameter '${name}' expects 'on' or 'off'`);
    case 'integer':
      return parseNumber(name, row, word);
    case 'array':
      // QEMU splits at each space and knows no quotes.
      if (type.of.kind === 'str') return word.split(' ');
      throw new OptionError(`The ${name} parameter can only be set through QMP`);
    default:
      return word;
  }
}

function parseNumber(name: ParameterName, row: ParameterRow, word: string): number | bigint {
  if (row.hmpNumber === 'plain') {
    const integer = parseIntegerText(word);
    if (integer === undefined) throw new OptionError(`Parameter '${name}' expects uint64`);
    return toJsonInteger(integer);
  }
  if (row.hmpNumber === 'mebibytes') {
    const size = parseSizeText(word, 'm');
    if ('fault' in size || size.bytes > SIGNED_MAX) throw new OptionError(`Invalid size ${word}`);
    return toJsonInteger(size.bytes);
  }
  const size = parseSizeText(word);
  if ('bytes' in size) {
    if (row.hmpNumber === 'signed-size' && size.bytes > SIGNED_MAX) {
      throw new OptionError(`Invalid size ${word}`);
    }
    return toJsonInteger(size.bytes);
  }
  throw new OptionError(
    size.fault === 'out of range'
      ? `Value '${word}' is out of range for parameter '${name}'`
      : `Parameter '${name}' expects a non-negative number below 2^64\n${SIZE_HINT}`,
  );
}

/** The lines of `info migrate_parameters`, without line ends. */
export function formatParameters(profile: QemuProfile, parameters: MigrationParameters): string[] {
  return servedParameters(profile)
    .flatMap((name) => {
      const { line } = parameterRow(name);
      if (line === undefined || parameters[name] === undefined) return [];
      const moved = line.moved && isAtLeast(profile.release, line.moved.since) ? line.moved : undefined;
      const { place, suffix = '' } = moved ?? line;
      return [{ place, text: formatLine(name, parameters, suffix) }];
    })
    .sort((a, b) => a.place - b.place)
    .flatMap(({ text }) => text);
}

function formatLine(name: ParameterName, parameters: MigrationParameters, suffix: string): string[] {
  const value = parameters[name];
  if (name === 'block-bitmap-mapping') return [`${name}:`, ...formatMapping(value as BitmapMapping)];
  if (Array.isArray(value)) return [`${name}:${value.map((word) => ` ${word}`).join('')}`];
  if (typeof value === 'boolean') return [`${name}: ${value ? 'on' : 'off'}`];
  return [`${name}: ${parameterRow(name).line?.quoted ? `'${value}'` : value}${suffix}`];
}

function formatMapping(mapping: BitmapMapping): string[] {
  return mapping.flatMap(({ 'node-name': node, alias, bitmaps }) => [
    `  '${node}' -> '${alias}'`,
    ...bitmaps.map((bitmap) => `    '${bitmap.name}' -> '${bitmap.alias}'`),
  ]);
}
