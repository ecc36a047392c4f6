import type { ProgressEvent } from '../progress.js';
import { visible, visibleLine } from '../visible.js';
import type { ResultText } from './command.js';
import { toJsonLine } from './json.js';
import { type Log, scalarsOf } from './log.js';
import type { ProgressBar } from './progress-bar.js';
import type { Failure } from './results.js';
import { Verbatim } from './verbatim.js';

const JSON_PROGRESS_MS = 100;

/**
 * Everything a command writes. Text may quote files and QEMUs: whatever would steer a terminal is spelled out here, in one place. Failures and warnings always go to stderr, each as one line that begins with `mapram: `, or
 * as records of the structured log where that was asked for.
 *
 * With `--json` stdout carries one object a line, told apart by its first key, whose value is the command's name:
 * `{"progress":…}`, `{"ready":…}` and `{"warning":…,"message":…}` any number of times, then one `{"result":…}` as the last line, which
 * after a failure holds `"error":{"code","message"}` instead of the command's fields.
 */
export class Output {
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #log: Log | undefined;
  readonly #bar: ProgressBar | undefined;
  #progressAt = Number.NEGATIVE_INFINITY;
  #progressPhase = '';

  constructor(
    readonly command: string,
    options: {
      json: boolean;
      /** No progress, and no text but warnings and failures. */
      quiet?: boolean;
      /** Gets what would go to stderr. */
      log?: Log;
      bar?: ProgressBar | undefined;
    },
  ) {
    this.#json = options.json;
    this.#quiet = options.quiet === true;
    this.#log = options.log;
    this.#bar = options.bar;
  }

  progress(event: ProgressEvent): void {
    this.#bar?.show(event);
    this.#log?.('debug', 'progress', scalarsOf(event));
    if (!this.#json || this.#quiet) return;
    const now = performance.now();
    const finished = event.totalBytes > 0 && event.bytes >= event.totalBytes;
    if (event.phase === this.#progressPhase && !finished && now - this.#progressAt < JSON_PROGRESS_MS) return;
    this.#progressPhase = event.phase;
    this.#progressAt = now;
    this.#line({ progress: this.command, ...event });
  }

  warn(message: string): void {
    this.#bar?.clear();
    if (this.#log) this.#log('warn', oneLine(message));
    else complain(`warning: ${message}`);
    if (this.#json) this.#line({ warning: this.command, message: oneLine(message) });
  }

  print(line: string): void {
    if (this.#json || this.#quiet) return;
    this.#bar?.clear();
    process.stdout.write(`${visible(line)}\n`);
  }

  ready(fields: object, line: string): void {
    if (this.#json) this.#line({ ready: this.command, ...fields });
    else this.print(line);
  }

  result(fields: object, text: ResultText): void {
    this.#bar?.clear();
    if (this.#json) this.#line({ result: this.command, ...fields });
    else if (text !== '' && !this.#quiet) process.stdout.write(`${shown(text)}\n`);
  }

  /** For whoever watches a terminal: that what was typed is heard. */
  hint(message: string): void {
    if (!process.stderr.isTTY) return;
    this.#bar?.clear();
    complain(message);
  }

  /** Why the exit code is 1 although there is a result. */
  verdict(message: string): void {
    if (this.#log) this.#log('error', message);
    else complain(message);
  }

  failure(failure: Failure): void {
    this.#bar?.clear();
    const { message, ...details } = failure;
    if (this.#log) this.#log('error', message, details);
    else complain(message);
    if (this.#json) this.#line({ result: this.command, error: failure });
  }

  #line(value: object): void {
    process.stdout.write(`${toJsonLine(value)}\n`);
  }
}

function complain(message: string): void {
  process.stderr.write(`mapram: ${visibleLine(oneLine(message))}\n`);
}

function shown(text: ResultText): string {
  const parts = text instanceof Verbatim || typeof text === 'string' ? [text] : text;
  return parts.map((part) => (part instanceof Verbatim ? part.text : visible(part))).join('\n\n');
}

/** A bar where somebody can see it. Its libraries take as long to load as all else, so nobody else waits for them. */
export async function barOnTerminal(): Promise<ProgressBar | undefined> {
  if (!process.stderr.isTTY || process.env.TERM === 'dumb') return undefined;
  const { ProgressBar } = await import('./progress-bar.js');
  return new ProgressBar(process.stderr, process.env);
}

/** Line breaks become blanks, so that a message is one line whatever was quoted in it. */
export function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*[\r\n]+\s*/g, ' ');
}
