import type { createLogUpdate } from 'log-update';
import type { ProgressEvent } from '../progress.js';
import { formatSize } from '../size.js';
import { visibleLine } from '../visible.js';
import { formatRemaining } from './format.js';

const REDRAW_MS = 100;
const BAR_CELLS = 24;
/** Room for the name of a phase, so that the bar stays in place when it changes. */
const PHASE_COLUMNS = 12;

/**
 * A line at the bottom of a terminal that shows the newest progress event.
 *
 * What draws it is loaded with the first event: it knows the width of every character, which takes longer to load than most
 * commands take that have nothing to show.
 */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  readonly #unicode: boolean;
  #loading = false;
  #update: ReturnType<typeof createLogUpdate> | undefined;
  /** Came before anything could be drawn. */
  #early: ProgressEvent | undefined;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #phase = '';

  constructor(stream: NodeJS.WriteStream, environment: NodeJS.ProcessEnv) {
    this.#stream = stream;
    this.#unicode = /utf-?8/i.test(environment.LC_ALL || environment.LC_CTYPE || environment.LANG || '');
  }

  show(event: ProgressEvent): void {
    if (this.#update === undefined) {
      this.#early = event;
      if (!this.#loading) void this.#load();
      return;
    }
    const now = performance.now();
    const finished = event.totalBytes > 0 && event.bytes >= event.totalBytes;
    if (event.phase === this.#phase && !finished && now - this.#drawnAt < REDRAW_MS) return;
    this.#phase = event.phase;
    this.#drawnAt = now;
    this.#update(visibleLine(progressLine(event, this.#unicode, this.#stream.columns)));
  }

  /** Takes the line away, so that other text can be written; the next event draws it again. */
  clear(): void {
    this.#early = undefined;
    this.#update?.clear();
    this.#phase = '';
  }

  async #load(): Promise<void> {
    this.#loading = true;
    const logUpdate = await import('log-update');
    // The cursor stays visible: a second ^C must not leave a terminal without one.
    this.#update = logUpdate.createLogUpdate(this.#stream, { showCursor: true });
    if (this.#early !== undefined) this.show(this.#early);
  }
}

/**
 * What the bar shows: `RAM          ████░░░░  50 %  1 GiB of 2 GiB  1.5 GiB/s  0:01 left`. On a terminal that is too narrow for it the least
 * important parts are left out, so that it stays one line.
 *
 * @param columns of the terminal; one that does not say has 80
 */
export function progressLine(event: ProgressEvent, unicode: boolean, columns = 80): string {
  const { phase, bytes, totalBytes } = event;
  const rate = event.rate > 0 ? `${formatSize(event.rate)}/s` : '';
  if (totalBytes <= 0) {
    return fitted(columns, bytes > 0 ? [phase, formatSize(bytes), rate] : [`${phase} …`]);
  }
  const share = Math.min(1, bytes / totalBytes);
  const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
  // Pages that the guest wrote anew are saved anew.
  const again = bytes > totalBytes ? `, ${formatSize(bytes - totalBytes)} again` : '';
  const size = `${formatSize(Math.min(bytes, totalBytes))} of ${formatSize(totalBytes)}${again}`;
  const left = event.remainingMs === undefined ? '' : `${formatRemaining(event.remainingMs)} left`;
  const cells = Math.min(BAR_CELLS, Math.floor(columns / 4));
  const full = Math.floor(share * cells);
  const [done, todo] = unicode ? ['█', '░'] : ['#', '.'];
  const bar = `${done.repeat(full)}${todo.repeat(cells - full)} ${percent}`;
  const name = phase.padEnd(Math.min(PHASE_COLUMNS, columns - bar.length - 2));
  const whole = [`${name} ${bar}`, size, rate, left];
  if (whole[0] !== undefined && whole[0].length < columns) return fitted(columns, whole);
  return fitted(columns, [percent.trim(), phase]);
}

/** As many of the parts, from the first on, as there is room for; the last column stays free, or the line would be broken. */
function fitted(columns: number, parts: readonly string[]): string {
  let line = '';
  for (const part of parts) {
    if (part === '') continue;
    const longer = line === '' ? part : `${line}  ${part}`;
    if (longer.length >= columns) break;
    line = longer;
  }
  return line === '' ? (parts[0] ?? '').slice(0, Math.max(0, columns - 1)) : line;
}
