/** Builds a value from the tokens of one JSON text, with QEMU's error texts. */

import { JsonDouble, type JsonObject, type JsonValue, toJsonInteger } from './json-value.js';
export type JsonTokenKind = '{' | '}' | '[' | ']' | ':' | ',' | 'string' | 'integer' | 'double' | 'keyword';

export interface JsonToken {
  readonly kind: JsonTokenKind;
  /** One character a byte. */
  readonly text: string;
}

export class JsonParseError extends Error {
  override readonly name = 'JsonParseError';

  constructor(reason: string) {
    super(`JSON parse error, ${reason}`);
  }
}

const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/** @throws JsonParseError */
export function parseTokens(tokens: readonly JsonToken[]): JsonValue {
  let at = 0;
  const next = (): JsonToken => {
    const token = tokens[at];
    if (token === undefined) throw new JsonParseError('premature EOI');
    at++;
    return token;
  };

  const parseValue = (): JsonValue => {
    const token = next();
    switch (token.kind) {
      case '{':
        return parseObject();
      case '[':
        return parseArray();
      case 'string':
        return parseString(token.text);
      case 'integer':
        return parseInteger(token.text);
      case 'double':
        return new JsonDouble(Number(token.text), token.text);
      case 'keyword':
        return parseKeyword(token.text);
      default:
        throw new JsonParseError('expecting value');
    }
  };

  const parseObject = (): JsonObject => {
    const object: JsonObject = {};
    if (tokens[at]?.kind === '}') {
      at++;
      return object;
    }
    for (;;) {
      const key = parseValue();
      if (typeof key !== 'string') throw new JsonParseError('key is not a string in object');
      if (next().kind !== ':') throw new JsonParseError('missing : in object pair');
      const value = parseValue();
      if (Object.hasOwn(object, key)) throw new JsonParseError('duplicate key');
      setMember(object, key, value);
      const { kind } = next();
      if (kind === '}') return object;
      if (kind !== ',') throw new JsonParseError('expected separator in dict');
    }
  };

  const parseArray = (): JsonValue[] => {
    const array: JsonValue[] = [];
    if (tokens[at]?.kind === ']') {
      at++;
      return array;
    }
    for (;;) {
      array.push(parseValue());
      const { kind } = next();
      if (kind === ']') return array;
      if (kind !== ',') throw new JsonParseError('expected separator in list');
    }
  };

  return parseValue();
}

/** A key named like a setter of every object is a member like any other. */
function setMember(object: JsonObject, key: string, value: JsonValue): void {
  if (key === '__proto__') {
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  } else {
    object[key] = value;
  }
}

function parseKeyword(text: string): JsonValue {
  switch (text) {
    case 'true':
      return true;
    case 'false':
      return false;
    case 'null':
      return null;
    default:
      throw new JsonParseError(`invalid keyword '${text}'`);
  }
}

/** What 64 bits cannot hold is a double to QEMU. */
function parseInteger(text: string): JsonValue {
  const short = text.length <= 15;
  if (short) return Number(text) + 0;
  // Longer than any 64-bit number: not worth the time of BigInt.
  if (text.length > 20) return new JsonDouble(Number(text), text);
  const value = BigInt(text);
  return value >= INT64_MIN && value <= UINT64_MAX
    ? toJsonInteger(value)
    : new JsonDouble(Number(text), text);
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "'": "'",
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** @param token with its quotes, one character a byte */
function parseString(token: string): string {
  const body = token.slice(1, -1);
  if (/^[\x20-\x5b\x5d-\x7e]*$/.test(body)) return body;
  let text = '';
  let at = 0;
  while (at < body.length) {
    const backslash = body.indexOf('\\', at);
    if (backslash !== at) {
      const end = backslash === -1 ? body.length : backslash;
      text += decodeUtf8(body.slice(at, end));
      at = end;
      continue;
    }
    const letter = body[at + 1] as string;
    if (letter === 'u') {
      const [char, length] = parseUnicodeEscape(token, body, at);
      text += char;
      at += length;
      continue;
    }
    const char = ESCAPES[letter];
    if (char === undefined) throw new JsonParseError('invalid escape sequence in string');
    text += char;
    at += 2;
  }
  return text;
}

/** Returns the character and the length of its escape, 6, or 12 for a pair of surrogates. */
function parseUnicodeEscape(token: string, body: string, at: number): [string, number] {
  const unit = hex4(body, at + 2);
  if (unit !== undefined && unit >= 0xd800 && unit <= 0xdbff && body.startsWith('\\u', at + 6)) {
    const low = hex4(body, at + 8);
    if (low !== undefined && low >= 0xdc00 && low <= 0xdfff) {
      const codePoint = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
      if (!isNoncharacter(codePoint)) return [String.fromCodePoint(codePoint), 12];
    }
  }
  if (unit === undefined || (unit >= 0xd800 && unit <= 0xdfff) || isNoncharacter(unit)) {
    throw new JsonParseError(`${token.slice(1 + at, 1 + at + 6)} is not a valid Unicode character`);
  }
  return [String.fromCharCode(unit), 6];
}

function hex4(text: string, at: number): number | undefined {
  const digits = text.slice(at, at + 4);
  return /^[0-9A-Fa-f]{4}$/.test(digits) ? Number.parseInt(digits, 16) : undefined;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** QEMU writes a NUL inside a string as the two bytes C0 80. */
function decodeUtf8(bytes: string): string {
  let text: string;
  try {
    text = bytes
      .split('\xc0\x80')
      .map((part) => utf8.decode(Buffer.from(part, 'latin1')))
      .join('\0');
  } catch {
    throw new JsonParseError('invalid UTF-8 sequence in string');
  }
  for (const char of text) {
    if (isNoncharacter(char.codePointAt(0) as number)) {
      throw new JsonParseError('invalid UTF-8 sequence in string');
    }
  }
  return text;
}

function isNoncharacter(codePoint: number): boolean {
  return (codePoint & 0xfffe) === 0xfffe || (codePoint >= 0xfdd0 && codePoint <= 0xfdef);
}
