import { visibleLine } from '../visible.js';

/** `mm:ss` or `h:mm:ss`, rounded up so that the last second is not 0:00. */
export function formatRemaining(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `12.3 ms`, `1.28 s`, `2 min 5 s`, `3 h 12 min`, `5 d 1 h`. */
export function formatDuration(ms: number): string {
  if (ms < 100) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 99_995) return `${Number((ms / 1000).toFixed(2))} s`;
  const seconds = Math.round(ms / 1000);
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours === 0) return `${minutes} min ${seconds % 60} s`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A count with its noun: `1 page`, `2 pages`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/**
 * Columns of text, two blanks apart, without trailing blanks. A cell stays on its line, whatever is in it.
 *
 * @param align one character a column: `<` left (the default), `>` right
 */
export function table(rows: readonly (readonly string[])[], align = ''): string {
  const lines = rows.map((row) => row.map(visibleLine));
  const widths: number[] = [];
  for (const row of lines) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  const pad = (cell: string, column: number) =>
    align[column] === '>' ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0);
  return lines.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

/** `name: value` lines with the values in one column. */
export function properties(pairs: readonly (readonly [name: string, value: string])[]): string {
  return table(pairs.map(([name, value]) => [`${name}:`, value]));
}
