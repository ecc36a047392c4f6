import { MapramError } from '../errors.js';

const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/**
 * Turns ^C, SIGTERM and SIGHUP into an AbortSignal, so that a command can put everything back before it ends. A second
 * one ends the process at once with the shell's usual code (128 + signal number).
 */
export class Cancellation implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener = (name: NodeJS.Signals) => {
    if (this.#controller.signal.aborted) process.exit(128 + SIGNALS[name as keyof typeof SIGNALS]);
    this.#controller.abort(new MapramError('CANCELLED', `${this.command}: cancelled by ${name}`));
  };

  constructor(readonly command: string) {
    for (const name of Object.keys(SIGNALS)) process.on(name as NodeJS.Signals, this.#listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const name of Object.keys(SIGNALS)) process.off(name as NodeJS.Signals, this.#listener);
  }
}
