/** How often a kind of line is passed on. */
const SHOWN = 3;
/** Kinds that are told apart; a guest could make up any number. */
const MAX_KINDS = 1000;

/** Leaves out lines that differ from earlier ones in numbers only, such as one for each range of memory that a balloon gives back. */
export class RepeatedLines {
  readonly #counts = new Map<string, number>();
  #rest = '';

  /** What of `text` is to be shown: whole lines. */
  take(text: string): string {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.map((line) => this.#shown(line)).join('');
  }

  #shown(line: string): string {
    const kind = line.replaceAll(/0x[0-9a-f]+|\d+/gi, 'N');
    const count = (this.#counts.get(kind) ?? 0) + 1;
    if (count > 1 || this.#counts.size < MAX_KINDS) this.#counts.set(kind, count);
    if (count < SHOWN) return `${line}\n`;
    return count === SHOWN ? `${line} (more lines like this one are left out)\n` : '';
  }
}
