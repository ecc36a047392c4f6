/**
 * Server-sent events to all open pages.
 *
 * Every event carries the whole of what it is about, under a name and a key; a later one with the same name and key
 * replaces it. A page that comes back after a short interruption says which event it saw last and gets those it missed;
 * any other page first gets the present state, as one event of each kind.
 */
import type { ServerResponse } from 'node:http';
import { RequestError, SECURITY_HEADERS, toPageJson } from './reply.js';

export interface PageEvent {
  readonly name: string;
  readonly data: unknown;
}

interface LoggedEvent {
  readonly number: number;
  readonly text: string;
}

/** Events kept for pages that come back, and characters of them all. */
const KEPT_EVENTS = 1000;
const KEPT_CHARACTERS = 8 * 2 ** 20;
const MAX_PAGES = 32;
/** Bytes that may wait for a page; one that is further behind is cut off, and gets the present state when it comes back. */
const MAX_WAITING_BYTES = 4 * 2 ** 20;
const HEARTBEAT_MS = 15_000;

export class EventHub {
  readonly #log: LoggedEvent[] = [];
  readonly #pages = new Set<ServerResponse>();
  readonly #heartbeat: NodeJS.Timeout;
  #number = 0;
  /** Characters of the events in the log. */
  #logged = 0;

  /**
   * @param run tells the events of this server from those of one before
   * @param present the present state, for a page that knows nothing
   */
  constructor(
    private readonly run: string,
    private readonly present: () => readonly PageEvent[],
  ) {
    this.#heartbeat = setInterval(() => {
      for (const page of this.#pages) page.write(':\n\n');
    }, HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  /** Number of open pages. */
  get pages(): number {
    return this.#pages.size;
  }

  publish(name: string, data: unknown): void {
    this.#number += 1;
    const event = { number: this.#number, text: this.#text(this.#number, name, data) };
    this.#keep(event);
    for (const page of this.#pages) this.#write(page, event.text);
  }

  #keep(event: LoggedEvent): void {
    this.#log.push(event);
    this.#logged += event.text.length;
    while (this.#log.length > KEPT_EVENTS || this.#logged > KEPT_CHARACTERS) {
      this.#logged -= this.#log.shift()?.text.length ?? 0;
    }
  }

  /** Keeps the answer open and sends events from now on. `lastSeen` is the browser's `Last-Event-ID`. */
  open(response: ServerResponse, lastSeen: string | undefined): void {
    if (this.#pages.size >= MAX_PAGES) throw new RequestError(503, 'too many pages are open');
    response.writeHead(200, {
      ...SECURITY_HEADERS,
      'Content-Type': 'text/event-stream; charset=utf-8',
      'X-Accel-Buffering': 'no',
    });
    const missed = this.#missed(lastSeen);
    if (missed === undefined) {
      for (const { name, data } of this.present()) response.write(this.#text(this.#number, name, data));
    } else {
      for (const { text } of missed) response.write(text);
    }
    response.write(this.#text(this.#number, 'ready', {}));
    this.#pages.add(response);
    response.on('close', () => this.#pages.delete(response));
    response.on('error', () => this.#pages.delete(response));
  }

  close(): void {
    clearInterval(this.#heartbeat);
    for (const page of this.#pages) page.end();
    this.#pages.clear();
  }

  /** Undefined when this page has to begin anew. */
  #missed(lastSeen: string | undefined): readonly LoggedEvent[] | undefined {
    const [, run, digits] = /^([\w-]+)\.(\d{1,15})$/.exec(lastSeen ?? '') ?? [];
    if (run !== this.run || digits === undefined) return undefined;
    const last = Number(digits);
    const oldest = this.#log[0]?.number ?? this.#number + 1;
    if (last > this.#number || last < oldest - 1) return undefined;
    return this.#log.filter(({ number }) => number > last);
  }

  #text(number: number, name: string, data: unknown): string {
    return `id: ${this.run}.${number}\nevent: ${name}\ndata: ${toPageJson(data)}\n\n`;
  }

  #write(page: ServerResponse, text: string): void {
    if (page.writableLength > MAX_WAITING_BYTES) page.destroy();
    else page.write(text);
  }
}
