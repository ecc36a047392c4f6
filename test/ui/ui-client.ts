/** A server of the page with what a test needs around it, and a client as plain as can be. */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import type { OperationEntry } from '../../src/ui/operations.js';
import { type UiOptions, UiServer } from '../../src/ui/ui-server.js';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
  /** The text as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests say what they expect of it
  readonly json: any;
}

export interface RequestOptions {
  readonly method?: string;
  /** Sent as JSON, or as it is when it is a string. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

export interface ServerEvent {
  readonly id: string;
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests say what they expect of it
  readonly data: any;
}

/** Unlike `fetch`, lets a test choose every header. */
export async function ask(url: URL, options: RequestOptions = {}): Promise<Answer> {
  const { body } = options;
  const response = await open(url, {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...options.headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text,
    get json() {
      return JSON.parse(text);
    },
  };
}

function open(
  url: URL,
  { method, headers, body }: { method: string; headers: Record<string, string>; body?: string },
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers }, resolve);
    request.on('error', reject);
    request.end(body);
  });
}

export class TestUi implements AsyncDisposable {
  private constructor(
    /** Where saved VMs are; removed at the end. */
    readonly directory: string,
    readonly server: UiServer,
  ) {}

  static async start(options: Partial<UiOptions> = {}): Promise<TestUi> {
    const directory = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'mapram-ui-')));
    try {
      const server = await UiServer.start({
        directories: [directory],
        findRunning: false,
        measureDisks: false,
        version: '1.2.3',
        ...options,
      });
      return new TestUi(directory, server);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  address(relative: string): URL {
    return new URL(relative, this.server.url);
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }

  ask(relative: string, options?: RequestOptions): Promise<Answer> {
    return ask(this.address(relative), options);
  }

  /** Begins an operation and waits for its end. */
  async run(request: object): Promise<OperationEntry> {
    const begun = await this.ask('api/operations', { body: request });
    if (begun.status !== 202) throw new Error(`${begun.status}: ${begun.text}`);
    return await this.ended(begun.json.id);
  }

  async ended(id: number): Promise<OperationEntry> {
    for await (const { name, data } of this.events()) {
      const entries: OperationEntry[] = name === 'operations' ? data : name === 'operation' ? [data] : [];
      const entry = entries.find((candidate) => candidate.id === id);
      if (entry && !['running', 'cancelling'].includes(entry.state)) return entry;
    }
    throw new Error('the events ended');
  }

  /** Server-sent events until the loop is left. */
  async *events(lastEventId?: string): AsyncGenerator<ServerEvent, void, undefined> {
    const response = await open(this.address('api/events'), {
      method: 'GET',
      headers: lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId },
    });
    if (response.statusCode !== 200) throw new Error(`the events were answered with ${response.statusCode}`);
    let text = '';
    try {
      for await (const chunk of response.setEncoding('utf8')) {
        text += chunk;
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const [, id, name, data] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
          text = text.slice(end + 2);
          if (id !== undefined && name !== undefined) yield { id, name, data: JSON.parse(data ?? '') };
        }
      }
    } finally {
      response.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    rmSync(this.directory, { recursive: true });
  }
}
