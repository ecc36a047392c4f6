/**
 * Checks what callers of the library give, where it comes in: each exported function has one schema, with one line an option.
 *
 * Callers in JavaScript have no types: an option that is misspelt or of another type would be ignored, or fail deep inside, with a
 * VM already stopped.
 */
import * as v from 'valibot';
import { MapramError } from './errors.js';

/** One schema for each member of `O`: one that is missing, one too many, or one that allows more than the type does not compile. */
export type OptionEntries<O> = { readonly [K in keyof Required<O>]: v.GenericSchema<O[K]> };

/** Names that an option had before, or that are easily taken for it, and what to write instead. */
export type FormerNames = Readonly<Record<string, string>>;

/** A schema for an object with the members of `O` and no others. */
export function optionsOf<O extends object>(
  entries: OptionEntries<O>,
  formerNames: FormerNames = {},
): v.GenericSchema<O> {
  const names = Object.keys(entries);
  const message = ({ expected, path }: v.BaseIssue<unknown>) =>
    expected === 'never' ? suggestion(String(path?.at(-1)?.key), names, formerNames) : 'an object';
  return v.strictObject(entries as v.ObjectEntries, message) as unknown as v.GenericSchema<O>;
}

/**
 * @param operation name of the function that was called
 * @throws MapramError `USAGE` that names the option, what it must be and what it is
 */
export function assertOptions<O>(operation: string, schema: v.GenericSchema<O>, options: O): void {
  const { issues } = v.safeParse(schema, options, { abortEarly: true });
  if (issues !== undefined) throw new MapramError('USAGE', `${operation}: ${problemOf(issues[0])}`);
}

/** The same of arguments that stand alone. */
export function assertArguments<A extends object>(
  operation: string,
  entries: OptionEntries<A>,
  given: A,
): void {
  assertOptions(operation, optionsOf<A>(entries), given);
}

function problemOf({ path, type, expected, message, input }: v.BaseIssue<unknown>): string {
  const name = path?.map(({ key }) => String(key)).join('.');
  if (name === undefined) return `the options must be ${message}, not ${described(input)}`;
  if (type === 'strict_object' && expected === 'never') return `there is no option ${name}${message}`;
  // An option that is not there at all has no schema that could say what it must be.
  if (type === 'strict_object' && input === undefined) return `the option ${name} is missing`;
  return `the option ${name} must be ${message}, not ${described(input)}`;
}

/** Characters of a string that are shown. */
const SHOWN = 60;

function described(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > SHOWN ? `${value.slice(0, SHOWN)}…` : value);
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object' || value === null) return String(value);
  const name: unknown = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name !== 'string' || name === 'Object' ? 'an object' : `an object of class ${name}`;
}

function suggestion(name: string, names: readonly string[], formerNames: FormerNames): string {
  const former = Object.hasOwn(formerNames, name) ? formerNames[name] : undefined;
  if (former !== undefined) return `; ${former}`;
  const plain = (word: string) => word.replaceAll(/[-_]/g, '').toLowerCase();
  const near = names
    .map((candidate) => ({ candidate, distance: editDistance(plain(name), plain(candidate)) }))
    .filter(({ candidate, distance }) => distance <= Math.min(3, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance)[0];
  return near === undefined ? `; there are ${names.join(', ')}` : `; did you mean ${near.candidate}?`;
}

/** How many letters must be added, removed or replaced to turn one word into the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = (row[j] as number) + (letter === to[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] as number) + 1, (next[j] as number) + 1));
    }
    row = next;
  }
  return row[to.length] as number;
}

// The kinds of values. Their messages complete "the option … must be".

export const text = v.pipe(v.string('a string'), v.nonEmpty('a string that is not empty'));
export const path = v.pipe(
  v.string('a path'),
  v.nonEmpty('a path that is not empty'),
  v.check((value) => !value.includes('\0'), 'a path without NUL characters'),
);
export const flag = v.optional(v.boolean('true or false'));
export const signal = v.optional(
  v.custom<AbortSignal>(
    // Not by its class: Jest and node:vm have one of their own.
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      typeof (value as AbortSignal).aborted === 'boolean' &&
      typeof (value as AbortSignal).addEventListener === 'function',
    'an AbortSignal',
  ),
);

export function callback<F extends (...args: never[]) => unknown>() {
  return v.optional(v.custom<F>((value) => typeof value === 'function', 'a function'));
}

export function oneOf<const T extends readonly string[]>(values: T) {
  return v.picklist(values, choices(values));
}

export function wholeNumber(minimum: number, maximum = Number.MAX_SAFE_INTEGER) {
  const range =
    maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  const message = `a whole number ${range}`;
  return v.pipe(
    v.number(message),
    v.safeInteger(message),
    v.minValue(minimum, message),
    v.maxValue(maximum, message),
  );
}

export function choices(values: readonly string[]): string {
  const quoted = values.map((value) => `'${value}'`);
  return quoted.length === 1
    ? (quoted[0] as string)
    : `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
}

/** Either of two kinds, by what the value is: the message is then that of the kind. */
export function either<A extends v.GenericSchema, B extends v.GenericSchema>(
  isFirst: (value: unknown) => boolean,
  first: A,
  second: B,
): v.GenericSchema<v.InferOutput<A> | v.InferOutput<B>> {
  return v.lazy((value) => (isFirst(value) ? first : second)) as never;
}
