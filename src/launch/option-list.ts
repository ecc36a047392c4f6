/**
 * The argument of a QEMU option that takes keys and values, in either of its two notations:
 *
 *     memory-backend-ram,id=mem0,size=1G            text; a comma inside a value is doubled
 *     {"qom-type": "memory-backend-ram", …}         JSON (-object, -device, -blockdev, …); nested keys and elements
 *                                                   are addressed as in the text: `file.filename`, `host-nodes.0`
 *
 * What is not changed comes out as it went in.
 */
type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };
type JsonObject = { [key: string]: JsonValue };

interface TextEntry {
  key: string;
  value: string;
  /** Written without a key (the implied first one) or without a value (`server`). */
  form: 'implied' | 'flag' | 'pair';
}

export class OptionList {
  private constructor(
    private readonly entries: TextEntry[],
    private readonly json: JsonObject | undefined,
    private readonly original: string | undefined,
    private changed = false,
  ) {}

  /**
   * Reads an argument. Never throws: text that is not JSON although it looks so is taken as text, as QEMU would refuse it
   * anyway.
   *
   * @param impliedKey what a first value without a key stands for: `type` of -machine, `qom-type` of -object, …
   */
  static parse(text: string, impliedKey?: string): OptionList {
    if (text.startsWith('{')) {
      const json = parseObject(text);
      if (json !== undefined) return new OptionList([], json, text);
    }
    return new OptionList(parseText(text, impliedKey), undefined, text);
  }

  /** A list in text notation. `first` is written without its key. */
  static of(first: string, pairs: Readonly<Record<string, string | number>>): OptionList {
    const entries: TextEntry[] = [{ key: '', value: first, form: 'implied' }];
    for (const [key, value] of Object.entries(pairs))
      entries.push({ key, value: String(value), form: 'pair' });
    return new OptionList(entries, undefined, undefined);
  }

  /** The keys, nested ones of JSON dotted; a key that is given twice appears twice. */
  get keys(): string[] {
    return this.json === undefined ? this.entries.map(({ key }) => key) : [...leaves(this.json)];
  }

  /** The value; the last one where a key is given twice, as QEMU takes it. `server` alone is `on`, `nowait` is `wait` = `off`. */
  get(key: string): string | undefined {
    if (this.json !== undefined) return scalarText(valueAt(this.json, key));
    for (const entry of this.entries.toReversed()) {
      if (entry.key === key) return entry.value;
      if (entry.form === 'flag' && entry.key === `no${key}`) return 'off';
    }
    return undefined;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** Replaces every value of `key`, or appends it. In JSON, `on` and `off` become booleans where a boolean was. */
  set(key: string, value: string): this {
    this.changed = true;
    if (this.json !== undefined) {
      setAt(this.json, key, value);
      return this;
    }
    const found = this.entries.filter((entry) => entry.key === key || isNegation(entry, key));
    if (found.length === 0) this.entries.push({ key, value, form: 'pair' });
    for (const entry of found) {
      entry.key = key;
      entry.value = value;
      if (entry.form === 'flag') entry.form = 'pair';
    }
    return this;
  }

  /** Takes `key` out, and in JSON everything below it. Nothing happens where there is none. */
  delete(key: string): this {
    if (this.json !== undefined) {
      this.changed = deleteAt(this.json, key) || this.changed;
      return this;
    }
    for (let index = this.entries.length - 1; index >= 0; index--) {
      const entry = this.entries[index] as TextEntry;
      if (entry.key !== key && !isNegation(entry, key)) continue;
      this.entries.splice(index, 1);
      this.changed = true;
    }
    return this;
  }

  toString(): string {
    if (!this.changed && this.original !== undefined) return this.original;
    if (this.json !== undefined) return JSON.stringify(this.json);
    return this.entries
      .map(({ key, value, form }, index) => {
        if (form === 'flag') return key;
        const text = value.replaceAll(',', ',,');
        // An implied key can be left out only in the first place.
        return (form === 'implied' && index === 0) || key === '' ? text : `${key}=${text}`;
      })
      .join(',');
  }
}

function isNegation(entry: TextEntry, key: string): boolean {
  return entry.form === 'flag' && entry.key === `no${key}`;
}

function parseText(text: string, impliedKey: string | undefined): TextEntry[] {
  const entries: TextEntry[] = [];
  for (const [index, part] of splitAtCommas(text).entries()) {
    const equals = part.indexOf('=');
    if (equals >= 0)
      entries.push({ key: part.slice(0, equals), value: part.slice(equals + 1), form: 'pair' });
    else if (index === 0 && impliedKey !== undefined)
      entries.push({ key: impliedKey, value: part, form: 'implied' });
    else entries.push({ key: part, value: 'on', form: 'flag' });
  }
  return entries;
}

/** Splits at single commas; doubled ones become one. */
function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== ',') part += text[at];
    else if (text[at + 1] === ',') {
      part += ',';
      at++;
    } else {
      parts.push(part);
      part = '';
    }
  }
  parts.push(part);
  return parts;
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value = JSON.parse(text) as JsonValue;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An object, or an array taken as one whose keys are numbers. */
function isContainer(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null;
}

function* leaves(json: JsonObject, prefix = ''): Generator<string> {
  for (const [key, value] of Object.entries(json)) {
    if (isContainer(value)) yield* leaves(value, `${prefix}${key}.`);
    else yield `${prefix}${key}`;
  }
}

function scalarText(value: JsonValue | undefined): string | undefined {
  if (value === undefined || value === null || typeof value === 'object') return undefined;
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value);
}

/** A dotted key leads to a nested value; a member that has dots in its own name comes first. */
function locate(json: JsonObject, key: string): { holder: JsonObject; name: string } | undefined {
  if (Object.hasOwn(json, key)) return { holder: json, name: key };
  const dot = key.indexOf('.');
  if (dot < 0) return undefined;
  const below = json[key.slice(0, dot)];
  return isContainer(below) ? locate(below, key.slice(dot + 1)) : undefined;
}

function valueAt(json: JsonObject, key: string): JsonValue | undefined {
  const place = locate(json, key);
  return place?.holder[place.name];
}

function setAt(json: JsonObject, key: string, value: string): void {
  const { holder, name } = locate(json, key) ?? { holder: json, name: key };
  const typed = typeof holder[name] === 'boolean' && (value === 'on' || value === 'off');
  holder[name] = typed ? value === 'on' : value;
}

function deleteAt(json: JsonObject, key: string): boolean {
  const place = locate(json, key);
  return place !== undefined && delete place.holder[place.name];
}
