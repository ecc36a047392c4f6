/**
 * The long operations that were begun from the page. They live in the server, so a page that is closed or loaded anew
 * misses nothing.
 */
import { errorReason, MapramError } from '../errors.js';
import type { ProgressEvent } from '../progress.js';
import { RequestError } from './reply.js';

export type OperationState = 'running' | 'cancelling' | 'done' | 'failed' | 'cancelled';

/** What the page shows of an operation. */
export interface OperationEntry {
  readonly id: number;
  /** `save`, `restore`, … */
  readonly kind: string;
  /** For people: what is done to what. */
  readonly title: string;
  readonly vm?: string;
  readonly file?: string;
  /** The file that is written from it, or compared with it. */
  readonly other?: string;
  /** As it was asked for, so that it can be tried again with changes. */
  readonly request?: object;
  /** Where the file is, and what happens to its disk: what rates are to be held against. */
  readonly directory?: string;
  readonly disk?: 'write' | 'read';
  readonly state: OperationState;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly elapsedMs: number;
  /** The newest. */
  readonly progress?: ProgressEvent;
  /** The rate so far: ms since the start, bytes a second. */
  readonly rates: readonly (readonly [at: number, rate: number])[];
  readonly warnings: readonly string[];
  /** What the command of the same name reports. */
  readonly result?: object;
  /** The answer is a bad one although the work was done: damage was found. */
  readonly verdict?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

/** What an operation is begun with. */
export interface Work
  extends Pick<
    OperationEntry,
    'kind' | 'title' | 'vm' | 'file' | 'other' | 'directory' | 'disk' | 'request'
  > {
  run(context: WorkContext): Promise<{ result: object; verdict?: string }>;
}

export interface WorkContext {
  readonly id: number;
  readonly signal: AbortSignal;
  onProgress(event: ProgressEvent): void;
  onWarning(message: string): void;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Running {
  readonly entry: Mutable<Omit<OperationEntry, 'elapsedMs' | 'rates' | 'warnings'>> & {
    rates: [at: number, rate: number][];
    readonly warnings: string[];
  };
  readonly startedAt: number;
  endedAt?: number;
  toldAt: number;
  timer?: NodeJS.Timeout;
  readonly abort: AbortController;
  ended: Promise<void>;
}

/** Ended operations that stay in the list. */
const KEPT_ENDED = 50;
/** Between two reports of progress. */
const TELL_MS = 150;
/** Between two points of the rate's history; doubled whenever it has grown too long. */
const RATE_STEP_MS = 250;
const MAX_RATES = 240;

export class Operations {
  readonly #operations = new Map<number, Running>();
  #lastId = 0;

  /**
   * @param onChange called with an operation that has changed
   * @param onEnd called when one has ended
   * @param onGone called with the id of one that left the list
   */
  constructor(
    private readonly onChange: (entry: OperationEntry) => void,
    private readonly onEnd: (entry: OperationEntry) => void,
    private readonly onGone: (id: number) => void,
  ) {}

  get entries(): OperationEntry[] {
    return [...this.#operations.values()].map(snapshot);
  }

  /** Whether any is under way. */
  get active(): boolean {
    return [...this.#operations.values()].some(({ endedAt }) => endedAt === undefined);
  }

  /** The next operation's number. */
  get nextId(): number {
    return this.#lastId + 1;
  }

  begin(work: Work): OperationEntry {
    const id = this.nextId;
    this.#lastId = id;
    const { run, ...about } = work;
    const operation: Running = {
      entry: {
        id,
        ...about,
        state: 'running',
        startedAt: new Date().toISOString(),
        rates: [],
        warnings: [],
      },
      startedAt: performance.now(),
      toldAt: 0,
      abort: new AbortController(),
      ended: Promise.resolve(),
    };
    this.#operations.set(id, operation);
    operation.ended = this.#run(operation, run.bind(work));
    this.#tell(operation);
    return snapshot(operation);
  }

  /** Stops an operation; what was begun is put back. @throws RequestError 404, 409 when it has ended */
  cancel(id: number): OperationEntry {
    const operation = this.#get(id);
    if (operation.endedAt !== undefined) throw new RequestError(409, `operation ${id} has ended already`);
    operation.entry.state = 'cancelling';
    operation.abort.abort(new MapramError('CANCELLED', `${operation.entry.kind}: cancelled`));
    this.#tell(operation);
    return snapshot(operation);
  }

  /** Takes an ended operation off the list. @throws RequestError 404, 409 when it is under way */
  dismiss(id: number): void {
    if (this.#get(id).endedAt === undefined) {
      throw new RequestError(409, `operation ${id} is under way; cancel it first`);
    }
    this.#operations.delete(id);
    this.onGone(id);
  }

  /** Takes all that have ended off the list. */
  dismissEnded(): void {
    for (const [id, { endedAt }] of this.#operations) if (endedAt !== undefined) this.dismiss(id);
  }

  /** Cancels everything and waits until all is put back. */
  async close(): Promise<void> {
    for (const [id, { endedAt }] of this.#operations) if (endedAt === undefined) this.cancel(id);
    await Promise.all([...this.#operations.values()].map(({ ended }) => ended));
  }

  async #run(operation: Running, run: Work['run']): Promise<void> {
    const { entry, abort, startedAt } = operation;
    let rateStep = RATE_STEP_MS;
    try {
      const { result, verdict } = await run({
        id: entry.id,
        signal: abort.signal,
        onProgress: (event) => {
          entry.progress = event;
          const at = Math.round(performance.now() - startedAt);
          const last = entry.rates.at(-1)?.[0] ?? Number.NEGATIVE_INFINITY;
          if (event.rate > 0 && at - last >= rateStep) entry.rates.push([at, event.rate]);
          if (entry.rates.length > MAX_RATES) {
            entry.rates = entry.rates.filter((_, index) => index % 2 === 0);
            rateStep *= 2;
          }
          this.#tellSoon(operation);
        },
        onWarning: (message) => {
          entry.warnings.push(message);
          this.#tellSoon(operation);
        },
      });
      entry.state = 'done';
      entry.result = result;
      if (verdict !== undefined) entry.verdict = verdict;
    } catch (error) {
      entry.state = abort.signal.aborted ? 'cancelled' : 'failed';
      entry.error = {
        code: error instanceof MapramError ? error.code : 'INTERNAL',
        message: errorReason(error),
      };
    }
    operation.endedAt = performance.now();
    this.#tell(operation);
    this.onEnd(snapshot(operation));
    this.#forgetOldest();
  }

  #tellSoon(operation: Running): void {
    const wait = operation.toldAt + TELL_MS - performance.now();
    if (wait <= 0) this.#tell(operation);
    else operation.timer ??= setTimeout(() => this.#tell(operation), wait);
  }

  #tell(operation: Running): void {
    clearTimeout(operation.timer);
    delete operation.timer;
    operation.toldAt = performance.now();
    this.onChange(snapshot(operation));
  }

  #forgetOldest(): void {
    const ended = [...this.#operations].filter(([, { endedAt }]) => endedAt !== undefined);
    for (const [id] of ended.slice(0, -KEPT_ENDED)) this.dismiss(id);
  }

  #get(id: number): Running {
    const operation = this.#operations.get(id);
    if (operation === undefined) throw new RequestError(404, `there is no operation ${id}`);
    return operation;
  }
}

function snapshot({ entry, startedAt, endedAt }: Running): OperationEntry {
  return { ...entry, elapsedMs: Math.round((endedAt ?? performance.now()) - startedAt) };
}
