/**
 * A JSON reader for vmdescriptions: QEMU writes the elements of its linked lists one after the other into the
 * same object, so keys repeat, and `JSON.parse` would keep only the last of each.
 */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;

export interface JsonEntry {
  key: string;
  value: JsonValue;
  /** Where the value's text is: `text.slice(start, end)`. */
  start: number;
  end: number;
}

/** An object with all its entries in their order, repeated keys included. */
export class JsonObject {
  constructor(readonly entries: readonly JsonEntry[]) {}

  /** The value of the first entry called `key`. */
  get(key: string): JsonValue | undefined {
    return this.entry(key)?.value;
  }

  entry(key: string): JsonEntry | undefined {
    // No closure: a description is read once, before anything of it is compiled.
    for (const entry of this.entries) if (entry.key === key) return entry;
    return undefined;
  }
}

/** Levels of brackets. */
export const MAX_DEPTH = 200;

/** Values that are parsed of a description, each of which takes some hundred bytes of memory. */
export const MAX_VALUES = 2 ** 19;

/**
 * `JSON.parse` for descriptions, which keeps the last value of a key that repeats.
 *
 * @throws SyntaxError when the text is not JSON, is nested deeper than 200 levels, or has more than 2^19 values
 */
export function parsePlainJson(text: string): unknown {
  countValues(text, MAX_VALUES);
  return JSON.parse(text);
}

/**
 * Counts what opens or parts values before any of them takes memory.
 *
 * @throws SyntaxError when there are more than `limit`, or more than 200 levels
 */
export function countValues(text: string, limit: number): number {
  let values = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = text.indexOf('"', at + 1);
      while (at !== -1 && isEscaped(text, at)) at = text.indexOf('"', at + 1);
      if (at === -1) return values;
    } else if (code === COMMA || code === OPENING_BRACKET || code === OPENING_BRACE) {
      if (++values > limit) throw new SyntaxError(`more than ${limit} values in the description`);
      if (code !== COMMA && ++depth > MAX_DEPTH)
        throw new SyntaxError(`more than ${MAX_DEPTH} levels at character ${at} of the description`);
    } else if (code === CLOSING_BRACKET || code === CLOSING_BRACE) depth--;
  }
  return values;
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0;
  while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes++;
  return backslashes % 2 === 1;
}

/**
 * Reads one JSON value; white space and NUL bytes may follow it.
 *
 * @throws SyntaxError with the place, when the text is not JSON, is nested deeper than 200 levels, or has more than 2^19 values
 */
export function parseDescriptionJson(text: string): JsonValue {
  countValues(text, MAX_VALUES);
  const reader = new JsonReader(text);
  const value = reader.value(0);
  reader.expectEnd();
  return value;
}

const LITERALS: readonly [string, JsonValue][] = [
  ['true', true],
  ['false', false],
  ['null', null],
];

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const [OPENING_BRACKET, CLOSING_BRACKET] = [0x5b, 0x5d];
const [OPENING_BRACE, CLOSING_BRACE] = [0x7b, 0x7d];
const [TAB, LINE_FEED, CARRIAGE_RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20];

/** A backslash, or a control character, which is not allowed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const NOT_PLAIN = /[\\\u0000-\u001f]/;

class JsonReader {
  private at = 0;
  private readonly number = /-?\d+(\.\d+)?([eE][-+]?\d+)?/y;

  constructor(private readonly text: string) {}

  value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.error(`more than ${MAX_DEPTH} levels`);
    this.skipSpace();
    const { text, at, number } = this;
    switch (text.charCodeAt(at)) {
      case OPENING_BRACE:
        return this.object(depth);
      case OPENING_BRACKET:
        return this.array(depth);
      case QUOTE:
        return this.string();
    }
    // Numbers are what there is most of.
    number.lastIndex = at;
    if (number.test(text)) {
      this.at = number.lastIndex;
      return Number(text.slice(at, this.at));
    }
    for (const [literal, value] of LITERALS) {
      if (text.startsWith(literal, at)) {
        this.at += literal.length;
        return value;
      }
    }
    throw this.error('no value');
  }

  expectEnd(): void {
    this.skipSpace();
    while (this.text[this.at] === '\0') this.at++;
    this.skipSpace();
    if (this.at < this.text.length) throw this.error('text behind the end');
  }

  private object(depth: number): JsonObject {
    const entries: JsonEntry[] = [];
    this.at++;
    if (this.take(CLOSING_BRACE)) return new JsonObject(entries);
    do {
      this.skipSpace();
      if (this.text.charCodeAt(this.at) !== QUOTE) throw this.error('no key');
      const key = this.string();
      if (!this.take(COLON)) throw this.error('no colon');
      this.skipSpace();
      const start = this.at;
      const value = this.value(depth + 1);
      entries.push({ key, value, start, end: this.at });
    } while (this.take(COMMA));
    if (!this.take(CLOSING_BRACE)) throw this.error('no closing brace');
    return new JsonObject(entries);
  }

  private array(depth: number): JsonValue[] {
    const values: JsonValue[] = [];
    this.at++;
    if (this.take(CLOSING_BRACKET)) return values;
    do values.push(this.value(depth + 1));
    while (this.take(COMMA));
    if (!this.take(CLOSING_BRACKET)) throw this.error('no closing bracket');
    return values;
  }

  private string(): string {
    const { text, at: start } = this;
    const end = text.indexOf('"', start + 1);
    const plain = text.slice(start + 1, end);
    if (end === -1 || NOT_PLAIN.test(plain)) return this.escapedString();
    this.at = end + 1;
    return plain;
  }

  private escapedString(): string {
    const { text, at: start } = this;
    for (let at = start + 1; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === BACKSLASH) at++;
      else if (code === QUOTE) {
        this.at = at + 1;
        try {
          return JSON.parse(text.slice(start, at + 1)) as string;
        } catch {
          throw this.error('a broken string');
        }
      }
    }
    throw this.error('no closing quote');
  }

  private take(code: number): boolean {
    this.skipSpace();
    if (this.text.charCodeAt(this.at) !== code) return false;
    this.at++;
    return true;
  }

  private skipSpace(): void {
    const { text } = this;
    for (;;) {
      const code = text.charCodeAt(this.at);
      if (code !== SPACE && code !== LINE_FEED && code !== CARRIAGE_RETURN && code !== TAB) return;
      this.at++;
    }
  }

  private error(problem: string): SyntaxError {
    return new SyntaxError(`${problem} at character ${this.at} of the description`);
  }
}
