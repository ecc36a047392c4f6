const ESCAPE = '\x1b';
const SEQUENCE_OR_CHARACTER = new RegExp(`${ESCAPE}\\[[0-9;]*[A-Za-z]|[\\s\\S]`, 'g');

/** Shows what stands on a terminal after it was sent `output`: just the sequences that line editors use. */
export function render(output: string): string {
  const lines: string[] = [''];
  let column = 0;
  for (const [token] of output.matchAll(SEQUENCE_OR_CHARACTER)) {
    const row = lines.length - 1;
    const line = lines[row] as string;
    if (token === '\n') lines.push('');
    else if (token === '\r') column = 0;
    else if (token === '\x1b[K') lines[row] = line.slice(0, column);
    else if (token === '\x1b[D') column = Math.max(0, column - 1);
    else if (token === '\x1b[C') column++;
    else {
      lines[row] = line.slice(0, column).padEnd(column) + token + line.slice(column + 1);
      column++;
    }
  }
  return lines.join('\n');
}
