/** What of some scripts an input reaches, by V8's block coverage. */
import { type Profiler, Session } from 'node:inspector';

/** Characters of scripts that ran. Blocks would not do: V8 joins and divides them by what ran. */
export class Reached {
  readonly #scripts = new Map<string, Uint8Array>();

  static of(scripts: readonly Profiler.ScriptCoverage[]): Reached {
    const reached = new Reached();
    for (const { url, functions } of scripts) {
      const ranges = functions.flatMap((one) => one.ranges);
      const ran = new Uint8Array(Math.max(0, ...ranges.map(({ endOffset }) => endOffset)));
      // Outer functions and blocks come before those in them, which know better. Functions that are missing did not run.
      for (const { startOffset, endOffset, count } of ranges)
        ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
      reached.#scripts.set(url, ran);
    }
    return reached;
  }

  get size(): number {
    let size = 0;
    for (const ran of this.#scripts.values()) for (const one of ran) size += one;
    return size;
  }

  add(other: Reached): void {
    for (const [url, more] of other.#scripts) {
      const had = this.#scripts.get(url) ?? new Uint8Array();
      const ran = new Uint8Array(Math.max(had.length, more.length));
      ran.set(had);
      for (let at = 0; at < more.length; at++) if (more[at]) ran[at] = 1;
      this.#scripts.set(url, ran);
    }
  }

  without(other: Reached): Reached {
    const rest = new Reached();
    for (const [url, ran] of this.#scripts) {
      const less = other.#scripts.get(url);
      const left = ran.map((one, at) => (less?.[at] ? 0 : one));
      if (left.includes(1)) rest.#scripts.set(url, left);
    }
    return rest;
  }

  includes(other: Reached): boolean {
    for (const [url, wanted] of other.#scripts) {
      const ran = this.#scripts.get(url);
      for (let at = 0; at < wanted.length; at++) if (wanted[at] && !ran?.[at]) return false;
    }
    return true;
  }
}

/** Sees scripts that are loaded after it: of functions that ran before, V8 does not count the blocks. */
export class Coverage implements Disposable {
  readonly #session = new Session();
  readonly #isWanted: (url: string) => boolean;

  constructor(isWanted: (url: string) => boolean) {
    this.#isWanted = isWanted;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    // With counts. Without them V8 tells of each function only once that it ran, and no input could be asked a second time.
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** What ran since the last time. */
  take(): Reached {
    let scripts: Profiler.ScriptCoverage[] | undefined;
    // The session is one of this thread, and answers before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error;
      scripts = answer.result;
    });
    if (scripts === undefined) throw new Error('V8 did not tell what ran');
    return Reached.of(scripts.filter(({ url }) => this.#isWanted(url)));
  }

  [Symbol.dispose](): void {
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
  }
}
