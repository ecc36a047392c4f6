/**
 * Where the parts of a vmdescription are, without parsing any of them: one pass that only follows strings and brackets.
 *
 * ```text
 * { "page_size": 4096, "devices": [ { … }, { … } ], "mapram": { … } }
 *   ^key         ^value             ^device  ^device ^key       ^value
 * ```
 */
import { MAX_DEPTH } from './description-json.js';
import { SLICE_LENGTH, type SlicedWork } from './slices.js';

/** `text.slice(start, end)`. */
export interface Extent {
  start: number;
  end: number;
}

export interface KeyExtent extends Extent {
  key: string;
}

export interface DescriptionOutline {
  /** All keys of the outermost object in their order, repeated ones included, each with the place of its value. */
  keys: KeyExtent[];
  /** The elements of the first array called `devices`. */
  devices: Extent[];
}

/** More than sections are read: 4096 processors have four devices each. */
const MAX_DEVICES = 2 ** 17;

/** QEMU writes three, mapram one. */
const MAX_KEYS = 2 ** 12;

const DEVICES = 'devices';

/**
 * The outline of `text`. What the values contain is not checked.
 *
 * @throws SyntaxError when the text is not an object, is nested deeper than 200 levels, or has more than 2^12 keys or 2^17 devices
 */
export function* outlineSteps(text: string): SlicedWork<DescriptionOutline> {
  const scanner = new OutlineScanner(text);
  while (!scanner.isAtEnd) {
    const from = scanner.at;
    scanner.scan(Math.min(text.length, from + SLICE_LENGTH));
    yield scanner.at - from;
  }
  return scanner.outline();
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const [OPENING_BRACKET, CLOSING_BRACKET] = [0x5b, 0x5d];
const [OPENING_BRACE, CLOSING_BRACE] = [0x7b, 0x7d];

const NONE = -1;

class OutlineScanner {
  at = 0;
  readonly #keys: KeyExtent[] = [];
  readonly #devices: Extent[] = [];
  #isInString = false;
  #depth = 0;
  #closed = false;
  /** Where the current member of the outermost object starts. */
  #member = 0;
  /** Where its value starts, and its key, once its colon was read. */
  #value = NONE;
  #key = '';
  /** Where the current element of `devices` starts. */
  #element = NONE;
  #hasDevices = false;

  constructor(private readonly text: string) {}

  get isAtEnd(): boolean {
    return this.#closed || this.at >= this.text.length;
  }

  /** Reads up to the character at `until`, or one more. */
  scan(until: number): void {
    const { text } = this;
    let at = this.at;
    for (; at < until && !this.#closed; at++) {
      const code = text.charCodeAt(at);
      if (this.#isInString) {
        if (code === BACKSLASH) at++;
        else if (code === QUOTE) this.#isInString = false;
      } else if (code === QUOTE) this.#isInString = true;
      else if (code === OPENING_BRACE || code === OPENING_BRACKET) this.#open(code, at);
      else if (code === CLOSING_BRACE || code === CLOSING_BRACKET) this.#close(code, at);
      else if (code === COMMA) this.#part(at);
      else if (code === COLON && this.#depth === 1) this.#takeKey(at);
      else if (this.#depth === 0 && !isSpace(code)) throw new SyntaxError('the description is not an object');
    }
    this.at = at;
  }

  outline(): DescriptionOutline {
    if (!this.#closed) throw this.#error('the description ends too early');
    if (!/^[ \t\r\n]*\0*[ \t\r\n]*$/.test(this.text.slice(this.at))) throw this.#error('text behind the end');
    return { keys: this.#keys, devices: this.#devices };
  }

  #open(code: number, at: number): void {
    this.#depth++;
    if (this.#depth > MAX_DEPTH)
      throw new SyntaxError(`more than ${MAX_DEPTH} levels at character ${at} of the description`);
    if (this.#depth === 1) {
      if (code !== OPENING_BRACE) throw new SyntaxError('the description is not an object');
      this.#member = at + 1;
    } else if (this.#depth === 2 && code === OPENING_BRACKET && this.#isDevices(at)) {
      this.#hasDevices = true;
      this.#element = at + 1;
    }
  }

  #isDevices(at: number): boolean {
    return (
      !this.#hasDevices &&
      this.#value !== NONE &&
      this.#key === DEVICES &&
      this.#trimmed(this.#value, at).start === at
    );
  }

  #close(code: number, at: number): void {
    if (this.#depth === 2 && this.#element !== NONE) {
      this.#takeDevice(at, this.#devices.length === 0);
      this.#element = NONE;
    } else if (this.#depth === 1) {
      if (code !== CLOSING_BRACE) throw this.#error('no closing brace', at);
      const { start, end } = this.#trimmed(this.#member, at);
      if (start < end || this.#keys.length > 0) this.#takeMember(at);
      this.#closed = true;
    }
    this.#depth--;
  }

  #part(at: number): void {
    if (this.#depth === 1) {
      this.#takeMember(at);
      this.#member = at + 1;
    } else if (this.#depth === 2 && this.#element !== NONE) {
      this.#takeDevice(at, false);
      this.#element = at + 1;
    }
  }

  #takeKey(at: number): void {
    if (this.#value !== NONE) throw this.#error('no comma', at);
    const { start, end } = this.#trimmed(this.#member, at);
    const key: unknown = this.text.charCodeAt(start) === QUOTE && JSON.parse(this.text.slice(start, end));
    if (typeof key !== 'string') throw this.#error('no key', at);
    this.#key = key;
    this.#value = at + 1;
  }

  #takeMember(at: number): void {
    if (this.#value === NONE) throw this.#error('no colon', at);
    const { start, end } = this.#trimmed(this.#value, at);
    if (start === end) throw this.#error('no value', at);
    if (this.#keys.length === MAX_KEYS) throw this.#error(`more than ${MAX_KEYS} keys`, at);
    this.#keys.push({ key: this.#key, start, end });
    this.#value = NONE;
  }

  #takeDevice(at: number, mayBeEmpty: boolean): void {
    const extent = this.#trimmed(this.#element, at);
    if (extent.start === extent.end) {
      if (mayBeEmpty) return;
      throw this.#error('no value', at);
    }
    if (this.#devices.length === MAX_DEVICES) throw this.#error(`more than ${MAX_DEVICES} devices`, at);
    this.#devices.push(extent);
  }

  /** Without the white space around it. */
  #trimmed(from: number, to: number): Extent {
    let start = from;
    let end = to;
    while (start < end && isSpace(this.text.charCodeAt(start))) start++;
    while (start < end && isSpace(this.text.charCodeAt(end - 1))) end--;
    return { start, end };
  }

  #error(problem: string, at = this.at): SyntaxError {
    return new SyntaxError(`${problem} at character ${at} of the description`);
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
