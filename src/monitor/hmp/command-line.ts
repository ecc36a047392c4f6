/** Splits a line of the human monitor by the parameters of its command, with QEMU's error texts. */

export interface HumanParameter {
  readonly name: string;
  /** `flag`: `-d`; `word`: a word or a quoted text; `rest`: the rest of the line as it stands; `switch`: on or off. */
  readonly kind: 'flag' | 'word' | 'rest' | 'switch';
}

export type HumanArguments = Readonly<Record<string, string | boolean>>;

/** The line cannot be read; the text is printed as it is. */
export class CommandLineError extends Error {
  override readonly name = 'CommandLineError';
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', '\\': '\\', "'": "'", '"': '"' };

/** Reads along a line. */
export class LineReader {
  readonly #line: string;
  #at = 0;

  constructor(line: string) {
    this.#line = line;
  }

  get rest(): string {
    return this.#line.slice(this.#at);
  }

  skipSpace(): void {
    while (/\s/.test(this.#line[this.#at] ?? '')) this.#at++;
  }

  /** Up to the next space; the name of a command. */
  plainWord(): string {
    this.skipSpace();
    const [word = ''] = /^\S*/.exec(this.rest) ?? [];
    this.#at += word.length;
    return word;
  }

  /** A word, or a text in double quotes with escapes. Undefined at the end and where the quotes are wrong. */
  word(): string | undefined {
    this.skipSpace();
    if (this.rest === '') return undefined;
    return this.rest.startsWith('"') ? this.#quoted() : this.plainWord();
  }

  /** Undefined at the end. */
  restOfLine(): string | undefined {
    const { rest } = this;
    this.#at = this.#line.length;
    return rest === '' ? undefined : rest;
  }

  take(text: string): void {
    this.#at += text.length;
  }

  #quoted(): string | undefined {
    let text = '';
    for (let at = this.#at + 1; at < this.#line.length; at++) {
      const char = this.#line[at] as string;
      if (char === '"') {
        this.#at = at + 1;
        return text;
      }
      if (char !== '\\') {
        text += char;
        continue;
      }
      at++;
      const escaped = ESCAPES[this.#line[at] ?? ''];
      if (escaped === undefined) return undefined;
      text += escaped;
    }
    return undefined;
  }
}

/**
 * @param name of the command as it appears in errors, aliases included
 * @param topic what to ask help for
 * @throws CommandLineError
 */
export function parseHumanArguments(
  reader: LineReader,
  name: string,
  topic: string,
  parameters: readonly HumanParameter[],
): HumanArguments {
  const fail = (text: string): never => {
    throw new CommandLineError(`${text}\nTry "help ${topic}" for more information\n`);
  };
  const values: Record<string, string | boolean> = {};
  for (const { name: parameter, kind } of parameters) {
    reader.skipSpace();
    if (kind === 'flag') {
      values[parameter] = takeFlag(reader, name, parameter, parameters, fail);
      continue;
    }
    const word = kind === 'rest' ? reader.restOfLine() : reader.word();
    if (kind === 'word' || kind === 'rest') values[parameter] = word ?? fail(`${name}: string expected`);
    else values[parameter] = word === 'on' || (word !== 'off' && fail("Expected 'on' or 'off'"));
  }
  reader.skipSpace();
  if (reader.rest !== '') fail(`${name}: extraneous characters at the end of line`);
  return values;
}

/** Flags must stand in the order in which the command declares them; only one letter after each dash. */
function takeFlag(
  reader: LineReader,
  name: string,
  flag: string,
  parameters: readonly HumanParameter[],
  fail: (text: string) => never,
): boolean {
  const match = /^-([\s\S])/.exec(reader.rest);
  if (match === null) return false;
  if (match[1] === flag) {
    reader.take(match[0]);
    return true;
  }
  const later = parameters.slice(parameters.findIndex((parameter) => parameter.name === flag) + 1);
  if (!later.some((parameter) => parameter.kind === 'flag' && parameter.name === match[1])) {
    fail(`${name}: unsupported option -${match[1]}`);
  }
  return false;
}
