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
    return this.entries.find((entry) => entry.key === key);
  }
}

const MAX_DEPTH = 200;

/**
 * Reads one JSON value; white space and NUL bytes may follow it.
 *
 * @throws SyntaxError with the place, when the text is not JSON or is nested deeper than 200 levels
 */
export function parseDescriptionJson(text: string): JsonValue {
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

class JsonReader {
  private at = 0;

  constructor(private readonly text: string) {}

  value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.error(`more than ${MAX_DEPTH} levels`);
    this.skipSpace();
    const { text, at } = this;
    switch (text[at]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
    }
    for (const [literal, value] of LITERALS) {
      if (text.startsWith(literal, at)) {
        this.at += literal.length;
        return value;
      }
    }
    const number = /-?\d+(\.\d+)?([eE][-+]?\d+)?/y;
    number.lastIndex = at;
    const [digits] = number.exec(text) ?? [];
    if (digits === undefined) throw this.error('no value');
    this.at += digits.length;
    return Number(digits);
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
    if (this.take('}')) return new JsonObject(entries);
    do {
      this.skipSpace();
      if (this.text[this.at] !== '"') throw this.error('no key');
      const key = this.string();
      if (!this.take(':')) throw this.error('no colon');
      this.skipSpace();
      const start = this.at;
      const value = this.value(depth + 1);
      entries.push({ key, value, start, end: this.at });
    } while (this.take(','));
    if (!this.take('}')) throw this.error('no closing brace');
    return new JsonObject(entries);
  }

  private array(depth: number): JsonValue[] {
    const values: JsonValue[] = [];
    this.at++;
    if (this.take(']')) return values;
    do values.push(this.value(depth + 1));
    while (this.take(','));
    if (!this.take(']')) throw this.error('no closing bracket');
    return values;
  }

  private string(): string {
    const { text } = this;
    const start = this.at;
    for (let at = start + 1; ; at++) {
      const character = text[at];
      if (character === undefined) throw this.error('no closing quote');
      if (character === '\\') at++;
      else if (character === '"') {
        this.at = at + 1;
        try {
          return JSON.parse(text.slice(start, at + 1)) as string;
        } catch {
          throw this.error('a broken string');
        }
      }
    }
  }

  private take(character: string): boolean {
    this.skipSpace();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private skipSpace(): void {
    const { text } = this;
    while (
      text[this.at] === ' ' ||
      text[this.at] === '\n' ||
      text[this.at] === '\r' ||
      text[this.at] === '\t'
    ) {
      this.at++;
    }
  }

  private error(problem: string): SyntaxError {
    return new SyntaxError(`${problem} at character ${this.at} of the description`);
  }
}
