/**
 * A line editor for terminals behind a socket, with the keys of QEMU's own: arrows, Home, End, Delete, Tab, and the
 * control keys A B D E F H K N P U W.
 */

/** What the terminal shall show, and the line once it is complete. */
export type EditorOutput = { readonly show: string } | { readonly line: string };

export interface EditorHooks {
  readonly prompt: string;
  /** Longest line; what goes beyond is ignored, as in QEMU. */
  readonly maxLength: number;
  complete(line: string): { readonly begun: string; readonly words: readonly string[] };
}

const HISTORY_LINES = 64;
const TERMINAL_COLUMNS = 80;
/** Most characters of an escape sequence; a longer one is none. */
const MAX_ESCAPE = 16;

export class LineEditor {
  readonly #hooks: EditorHooks;
  readonly #history: string[] = [];
  #line = '';
  #cursor = 0;
  /** Place in the history; its length while a new line is edited. */
  #recalled = 0;
  #escape = '';
  #skipNewline = false;

  constructor(hooks: EditorHooks) {
    this.#hooks = hooks;
  }

  /** Takes in what was typed, one character a byte. */
  *type(input: string): Generator<EditorOutput> {
    let shown = '';
    for (const char of input) {
      if (this.#escape !== '') {
        shown += this.#inEscape(char);
      } else if (char === '\r' || char === '\n') {
        // A terminal in raw mode sends CR, a pipe LF, telnet both.
        if (char === '\n' && this.#skipNewline) {
          this.#skipNewline = false;
          continue;
        }
        yield { show: `${shown}\r\n` };
        shown = '';
        yield { line: this.#accept() };
      } else {
        shown += this.#key(char);
      }
      this.#skipNewline = char === '\r';
    }
    if (shown !== '') yield { show: shown };
  }

  #accept(): string {
    const line = this.#line;
    if (line.trim() !== '' && this.#history.at(-1) !== line) this.#history.push(line);
    if (this.#history.length > HISTORY_LINES) this.#history.shift();
    this.#recalled = this.#history.length;
    this.#line = '';
    this.#cursor = 0;
    return line;
  }

  #key(char: string): string {
    switch (char) {
      case '\x01':
        return this.#moveTo(0);
      case '\x02':
        return this.#moveTo(this.#cursor - 1);
      case '\x04':
        return this.#edit(this.#cursor, this.#cursor + 1);
      case '\x05':
        return this.#moveTo(this.#line.length);
      case '\x06':
        return this.#moveTo(this.#cursor + 1);
      case '\x08':
      case '\x7f':
        return this.#edit(this.#cursor - 1, this.#cursor);
      case '\t':
        return this.#complete();
      case '\x0b':
        return this.#edit(this.#cursor, this.#line.length);
      case '\x0e':
        return this.#recall(this.#recalled + 1);
      case '\x10':
        return this.#recall(this.#recalled - 1);
      case '\x15':
        return this.#edit(0, this.#cursor);
      case '\x17':
        return this.#edit(this.#line.slice(0, this.#cursor).replace(/\S*\s*$/, '').length, this.#cursor);
      case '\x1b':
        this.#escape = char;
        return '';
      default:
        return char < ' ' ? '' : this.#edit(this.#cursor, this.#cursor, char);
    }
  }

  #inEscape(char: string): string {
    this.#escape += char;
    const sequence = this.#escape;
    if (/^.[[O][\d;]*$/.test(sequence) && sequence.length < MAX_ESCAPE) return '';
    this.#escape = '';
    switch (sequence.slice(2)) {
      case 'A':
        return this.#recall(this.#recalled - 1);
      case 'B':
        return this.#recall(this.#recalled + 1);
      case 'C':
        return this.#moveTo(this.#cursor + 1);
      case 'D':
        return this.#moveTo(this.#cursor - 1);
      case 'H':
      case '1~':
        return this.#moveTo(0);
      case 'F':
      case '4~':
        return this.#moveTo(this.#line.length);
      case '3~':
        return this.#edit(this.#cursor, this.#cursor + 1);
      default:
        return '';
    }
  }

  /** Replaces a part of the line; the cursor comes to stand behind it. */
  #edit(from: number, to: number, text = ''): string {
    const start = Math.max(0, from);
    if (this.#line.length + text.length - (to - start) > this.#hooks.maxLength) return '';
    const back = left(this.#cursor - start);
    this.#line = this.#line.slice(0, start) + text + this.#line.slice(to);
    this.#cursor = start + text.length;
    const after = this.#line.slice(this.#cursor);
    return `${back}${text}${after}\x1b[K${left(after.length)}`;
  }

  #moveTo(place: number): string {
    const target = Math.min(Math.max(0, place), this.#line.length);
    const steps = target - this.#cursor;
    this.#cursor = target;
    return steps > 0 ? '\x1b[C'.repeat(steps) : left(-steps);
  }

  #recall(place: number): string {
    if (place < 0 || place > this.#history.length) return '';
    this.#recalled = place;
    const line = this.#history[place] ?? '';
    const back = this.#moveTo(0);
    this.#line = line;
    this.#cursor = line.length;
    return `${back}${line}\x1b[K`;
  }

  #complete(): string {
    if (this.#cursor < this.#line.length) return '';
    const { begun, words } = this.#hooks.complete(this.#line);
    if (words.length === 0) return '';
    const common = commonPrefix(words);
    const added = common.slice(begun.length) + (words.length === 1 ? ' ' : '');
    if (words.length === 1) return this.#edit(this.#cursor, this.#cursor, added);
    const typed = this.#edit(this.#cursor, this.#cursor, added);
    return `${typed}\r\n${columns(words)}${this.#hooks.prompt}${this.#line}\x1b[K`;
  }
}

function left(steps: number): string {
  return '\x1b[D'.repeat(Math.max(0, steps));
}

function commonPrefix(words: readonly string[]): string {
  let prefix = words[0] ?? '';
  for (const word of words) while (!word.startsWith(prefix)) prefix = prefix.slice(0, -1);
  return prefix;
}

function columns(words: readonly string[]): string {
  const width = Math.max(...words.map((word) => word.length)) + 2;
  const perLine = Math.max(1, Math.floor((TERMINAL_COLUMNS - 1) / width));
  let text = '';
  for (const [index, word] of words.entries()) {
    const last = index % perLine === perLine - 1 || index === words.length - 1;
    text += `${word.padEnd(width)}${last ? '\r\n' : ''}`;
  }
  return text;
}
