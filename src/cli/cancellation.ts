import { MapramError } from '../errors.js';
import { formatDuration } from './format.js';

const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;
type SignalName = keyof typeof SIGNALS;

/**
 * Turns ^C, SIGTERM and SIGHUP into an AbortSignal, so that a command can put everything back before it ends; and the end of its time, where
 * it has a limit. A second signal ends the process at once.
 */
export class Cancellation implements Disposable {
  readonly #controller = new AbortController();
  #signal: SignalName | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #listener = (name: NodeJS.Signals) => {
    if (this.#signal !== undefined) process.exit(shellCode(name as SignalName));
    this.#signal = name as SignalName;
    this.onSignal();
    this.#controller.abort(new MapramError('CANCELLED', `${this.command}: cancelled by ${name}`));
  };

  constructor(
    readonly command: string,
    private readonly onSignal: () => void,
  ) {
    for (const name of Object.keys(SIGNALS)) process.on(name as NodeJS.Signals, this.#listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The code with which shells expect a program to end that a signal has ended, 128 + its number. */
  get exitCode(): number | undefined {
    return this.#signal && shellCode(this.#signal);
  }

  /** Gives up after so many ms. */
  limit(ms: number): void {
    this.#timer = setTimeout(() => {
      const message = `${this.command}: given up after ${formatDuration(ms)}, the limit that --timeout sets`;
      this.#controller.abort(new MapramError('CANCELLED', message));
    }, ms);
  }

  /** What was to be done within the limit is done. */
  unlimit(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.unlimit();
    for (const name of Object.keys(SIGNALS)) process.off(name as NodeJS.Signals, this.#listener);
  }
}

function shellCode(name: SignalName): number {
  return 128 + SIGNALS[name];
}
