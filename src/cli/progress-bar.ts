import { createLogUpdate } from 'log-update';
import type { ProgressEvent } from '../progress.js';
import { formatSize } from '../size.js';
import { formatRemaining } from './format.js';

const REDRAW_MS = 100;
const BAR_CELLS = 24;

/** A line at the bottom of a terminal that shows the newest progress event. */
export class ProgressBar {
  readonly #update: ReturnType<typeof createLogUpdate>;
  readonly #unicode: boolean;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #phase = '';

  constructor(stream: NodeJS.WriteStream, environment: NodeJS.ProcessEnv) {
    // The cursor stays visible: a second ^C must not leave a terminal without one.
    this.#update = createLogUpdate(stream, { showCursor: true });
    this.#unicode = /utf-?8/i.test(environment.LC_ALL || environment.LC_CTYPE || environment.LANG || '');
  }

  show(event: ProgressEvent): void {
    const now = performance.now();
    const finished = event.totalBytes > 0 && event.bytes >= event.totalBytes;
    if (event.phase === this.#phase && !finished && now - this.#drawnAt < REDRAW_MS) return;
    this.#phase = event.phase;
    this.#drawnAt = now;
    this.#update(progressLine(event, this.#unicode));
  }

  /** Takes the line away, so that other text can be written; the next event draws it again. */
  clear(): void {
    this.#update.clear();
    this.#phase = '';
  }
}

/** What the bar shows: `ram ████░░░░ 50 %  1 GiB of 2 GiB  1.5 GiB/s  0:01 left`. */
export function progressLine(event: ProgressEvent, unicode: boolean): string {
  const rate = event.rate > 0 ? `  ${formatSize(event.rate)}/s` : '';
  if (event.totalBytes <= 0) {
    return event.bytes > 0 ? `${event.phase}  ${formatSize(event.bytes)}${rate}` : `${event.phase} …`;
  }
  const share = Math.min(1, event.bytes / event.totalBytes);
  const full = Math.floor(share * BAR_CELLS);
  const [done, todo] = unicode ? ['█', '░'] : ['#', '.'];
  const bar = done.repeat(full) + todo.repeat(BAR_CELLS - full);
  const percent = String(Math.floor(share * 100)).padStart(3);
  const left = event.remainingMs === undefined ? '' : `  ${formatRemaining(event.remainingMs)} left`;
  return `${event.phase} ${bar} ${percent} %  ${formatSize(event.bytes)} of ${formatSize(event.totalBytes)}${rate}${left}`;
}
