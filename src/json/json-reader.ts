/**
 * Reads JSON values from a stream of bytes as QEMU does: values follow each other with or without white space between
 * them, may span lines, and a broken one does not end the conversation.
 *
 *     bytes → tokens → (nesting back at zero) → value
 *
 * Extensions of QEMU that are understood: strings in single quotes, and control characters outside strings, which end
 * whatever was begun. What is refused, and in which words, follows QEMU as well, except that lengths are capped lower.
 */

import { JsonParseError, type JsonToken, type JsonTokenKind, parseTokens } from './json-parser.js';
import type { JsonValue } from './json-value.js';

export type JsonMessage =
  | { readonly value: JsonValue; readonly error?: never }
  /** `fatal`: a limit was passed and what follows cannot be trusted to begin at a value. */
  | { readonly error: string; readonly fatal: boolean; readonly value?: never };

export interface JsonLimits {
  /** Most bytes in one value, all its tokens together. */
  readonly maxBytes: number;
  /** Most tokens in one value. */
  readonly maxTokens: number;
  /** Most objects and arrays inside each other; QEMU allows 1024. */
  readonly maxDepth: number;
}

const DEFAULT_JSON_LIMITS: JsonLimits = { maxBytes: 64 << 20, maxTokens: 2 << 20, maxDepth: 1024 };

type State =
  | 'start'
  | 'recovery'
  | 'double-quoted'
  | 'double-quoted-escape'
  | 'single-quoted'
  | 'single-quoted-escape'
  | 'sign'
  | 'zero'
  | 'digits'
  | 'point'
  | 'fraction'
  | 'exponent'
  | 'exponent-sign'
  | 'exponent-digits'
  | 'keyword';

const STRUCTURAL: ReadonlySet<number> = new Set(Buffer.from('{}[]:,'));
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const BACKSLASH = 0x5c;

export class JsonReader {
  readonly #limits: JsonLimits;
  #state: State = 'start';
  /** The token begun so far, one character a byte. */
  #token = '';
  #tokens: JsonToken[] = [];
  #bytes = 0;
  #braces = 0;
  #brackets = 0;

  constructor(limits: JsonLimits = DEFAULT_JSON_LIMITS) {
    this.#limits = limits;
  }

  /** Whether a value was begun that is not complete. */
  get pending(): boolean {
    return this.#tokens.length > 0 || (this.#token !== '' && this.#state !== 'recovery');
  }

  /** Takes in `chunk` and gives the messages that it completes, in order. */
  *push(chunk: Uint8Array): Generator<JsonMessage> {
    let at = 0;
    while (at < chunk.length) {
      const byte = chunk[at] as number;
      if (this.#state === 'double-quoted' || this.#state === 'single-quoted') {
        const end = this.#endOfPlainText(chunk, at);
        if (end > at) {
          this.#token += latin1(chunk, at, end);
          at = end;
          if (this.#tooBig()) yield this.#abandon('JSON token size limit exceeded');
          continue;
        }
      }
      // A byte that ends a number or a keyword is looked at again as the beginning of the next token.
      const consumed = this.#step(byte);
      if (consumed) at++;
      const message = this.#message;
      if (message) {
        this.#message = undefined;
        yield message;
      }
    }
  }

  /** The input has ended: completes a number or keyword that only its end could complete. */
  *end(): Generator<JsonMessage> {
    yield* this.push(Buffer.of(0x0a));
  }

  #message: JsonMessage | undefined;

  #endOfPlainText(chunk: Uint8Array, from: number): number {
    const quote = this.#state === 'double-quoted' ? QUOTE : APOSTROPHE;
    let at = from;
    while (at < chunk.length) {
      const byte = chunk[at] as number;
      if (byte === quote || byte === BACKSLASH || byte < 0x20 || byte > 0xfd) break;
      at++;
    }
    return at;
  }

  /** One step of the lexer. Returns whether the byte was used up. */
  #step(byte: number): boolean {
    const char = String.fromCharCode(byte);
    switch (this.#state) {
      case 'start':
        return this.#begin(byte, char);
      case 'recovery':
        if (byte < 0x20 || byte > 0xfd || STRUCTURAL.has(byte)) {
          this.#state = 'start';
          return false;
        }
        return true;
      case 'double-quoted':
      case 'single-quoted':
        if (byte < 0x20 || byte > 0xfd) return this.#stray(char);
        this.#token += char;
        if (byte === BACKSLASH) this.#state = `${this.#state}-escape`;
        else this.#emit('string');
        return true;
      case 'double-quoted-escape':
      case 'single-quoted-escape':
        if (byte < 0x20 || byte > 0xfd) return this.#stray(char);
        return this.#extend(char, this.#state === 'double-quoted-escape' ? 'double-quoted' : 'single-quoted');
      case 'sign':
        if (char === '0') return this.#extend(char, 'zero');
        return isDigit(byte) ? this.#extend(char, 'digits') : this.#stray(char);
      case 'zero':
        if (isDigit(byte)) return this.#stray(char);
        return this.#integerTail(char);
      case 'digits':
        if (isDigit(byte)) return this.#extend(char, 'digits');
        return this.#integerTail(char);
      case 'point':
        return isDigit(byte) ? this.#extend(char, 'fraction') : this.#stray(char);
      case 'fraction':
        if (isDigit(byte)) return this.#extend(char, 'fraction');
        if (char === 'e' || char === 'E') return this.#extend(char, 'exponent');
        return this.#emit('double');
      case 'exponent':
        if (char === '+' || char === '-') return this.#extend(char, 'exponent-sign');
        return isDigit(byte) ? this.#extend(char, 'exponent-digits') : this.#stray(char);
      case 'exponent-sign':
        return isDigit(byte) ? this.#extend(char, 'exponent-digits') : this.#stray(char);
      case 'exponent-digits':
        return isDigit(byte) ? this.#extend(char, 'exponent-digits') : this.#emit('double');
      case 'keyword':
        return isLowerCase(byte) ? this.#extend(char, 'keyword') : this.#emit('keyword');
    }
  }

  #begin(byte: number, char: string): boolean {
    if (char === ' ' || char === '\t' || char === '\r' || char === '\n') return true;
    if (STRUCTURAL.has(byte)) {
      this.#token = char;
      this.#emit(char as JsonTokenKind);
      return true;
    }
    if (byte === QUOTE) return this.#extend(char, 'double-quoted');
    if (byte === APOSTROPHE) return this.#extend(char, 'single-quoted');
    if (char === '-') return this.#extend(char, 'sign');
    if (char === '0') return this.#extend(char, 'zero');
    if (isDigit(byte)) return this.#extend(char, 'digits');
    if (isLowerCase(byte)) return this.#extend(char, 'keyword');
    return this.#stray(char);
  }

  #integerTail(char: string): boolean {
    if (char === '.') return this.#extend(char, 'point');
    if (char === 'e' || char === 'E') return this.#extend(char, 'exponent');
    return this.#emit('integer');
  }

  #extend(char: string, state: State): true {
    this.#token += char;
    this.#state = state;
    if (this.#tooBig()) this.#message = this.#abandon('JSON token size limit exceeded');
    return true;
  }

  /** A byte that fits nowhere: what was begun is dropped, and so is everything up to the next structural character. */
  #stray(char: string): true {
    const text = printable(`${this.#token}${char}`);
    this.#reset();
    this.#state = 'recovery';
    this.#message = { error: `JSON parse error, stray '${text}'`, fatal: false };
    return true;
  }

  /** Completes a token, and with it perhaps a value. Returns false: the byte after it is still to be looked at. */
  #emit(kind: JsonTokenKind): false {
    const token = { kind, text: this.#token };
    this.#token = '';
    this.#state = 'start';
    if (kind === '{') this.#braces++;
    if (kind === '}') this.#braces--;
    if (kind === '[') this.#brackets++;
    if (kind === ']') this.#brackets--;
    this.#bytes += token.text.length;
    if (this.#tokens.length + 1 > this.#limits.maxTokens) {
      this.#message = this.#abandon('JSON token count limit exceeded');
    } else if (this.#braces + this.#brackets > this.#limits.maxDepth) {
      this.#message = this.#abandon('JSON nesting depth limit exceeded');
    } else {
      this.#tokens.push(token);
      const open = (this.#braces > 0 || this.#brackets > 0) && this.#braces >= 0 && this.#brackets >= 0;
      if (!open) this.#message = this.#complete();
    }
    return false;
  }

  #complete(): JsonMessage {
    const tokens = this.#tokens;
    this.#reset();
    try {
      return { value: parseTokens(tokens) };
    } catch (error) {
      if (error instanceof JsonParseError) return { error: error.message, fatal: false };
      throw error;
    }
  }

  #tooBig(): boolean {
    return this.#bytes + this.#token.length > this.#limits.maxBytes;
  }

  #abandon(error: string): JsonMessage {
    this.#reset();
    return { error, fatal: true };
  }

  #reset(): void {
    this.#token = '';
    this.#tokens = [];
    this.#bytes = 0;
    this.#braces = 0;
    this.#brackets = 0;
    this.#state = 'start';
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function isLowerCase(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1');
}

/** The bytes of a token for an error text: up to a NUL, and not without end. */
function printable(bytes: string): string {
  const text = bytes.split('\0', 1)[0] as string;
  return Buffer.from(text.slice(0, 200), 'latin1').toString('utf8');
}
