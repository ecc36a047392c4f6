/**
 * The server behind the page: `mapram ui`.
 *
 * ```text
 * GET    /TOKEN/                          the page and its files
 * GET    /TOKEN/api/state                 everything the page shows, once
 * GET    /TOKEN/api/events                the same, and every change (server-sent events)
 * POST   /TOKEN/api/refresh               looks for VMs and files again
 * POST   /TOKEN/api/operations            begins a save, restore, …: 202 with the operation
 * DELETE /TOKEN/api/operations            takes all ended ones off the list
 * POST   /TOKEN/api/operations/N/cancel
 * DELETE /TOKEN/api/operations/N          takes an ended one off the list
 * POST   /TOKEN/api/speed                 measures a directory's disk
 * GET    /TOKEN/api/monitor?vm=ADDRESS    parameters and capabilities
 * POST   /TOKEN/api/monitor               sets some
 * POST   /TOKEN/api/run-state             cont, stop or quit
 * POST   /TOKEN/api/remove                deletes a saved VM
 * GET    /TOKEN/api/map?file=FILE         picture of the memory in a file
 * GET    /TOKEN/api/devices?file=FILE     device state in a file
 * GET    /TOKEN/report?file=FILE          a page about a file, with what its memory holds
 * GET    /TOKEN/comparison?before&after   a page about what differs between two files
 * GET    /TOKEN/metrics                   figures for Prometheus
 * GET    /TOKEN/api/plan?file=FILE        the command line that resuming it would start
 * ```
 *
 * Bodies are JSON. What fails is answered with `{"error":{"code","message"}}`.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorReason, MapramError } from '../errors.js';
import type { BuiltinGuestOptions } from '../guest/builtin/options.js';
import { ConnectionLimit } from '../io/socket/connection-limit.js';
import { EXPOSITION_TYPE, formatMetrics } from '../metrics/exposition.js';
import { createToken, foreignRequest, isToken } from './access.js';
import { Directories } from './directories.js';
import { EventHub, type PageEvent } from './event-hub.js';
import { memoryMap } from './memory-map.js';
import { changeMonitor, readMonitor } from './monitor-state.js';
import { OperationMetrics } from './operation-metrics.js';
import { Operations } from './operations.js';
import { readPageFile } from './page-files.js';
import { RequestError, readJson, send, sendError, sendJson } from './reply.js';
import {
  DirectoryRequest,
  FileRequest,
  MonitorRequest,
  OPERATION_KINDS,
  parseRequest,
  RunStateRequest,
} from './requests.js';
import { savedDevices } from './saved-devices.js';
import { SavedList } from './saved-list.js';
import { sendComparison, sendReport } from './saved-report.js';
import { VmList } from './vm-list.js';
import { launchPlan } from './works/launch-works.js';
import type { Things } from './works/things.js';
import { workFor } from './works/works.js';

export interface UiOptions {
  /** Where saved VMs are and go. */
  readonly directories: readonly string[];
  /** QMP sockets, directories of them, or paths whose last part has `*` or `?`. */
  readonly sockets?: readonly string[];
  /** Whether the monitors of all QEMUs that run here are found by themselves; true by default. */
  readonly findRunning?: boolean;
  /** TCP port on the loopback interface; 0, the default, takes a free one. */
  readonly port?: number;
  /** Builtin guests to run in this process, to try things with. */
  readonly builtins?: readonly BuiltinGuestOptions[];
  /** Whether the disks are tried out at the start; true by default. */
  readonly measureDisks?: boolean;
  /** Shown on the page. */
  readonly version?: string;
}

/** How often VMs and files are looked at while a page is open. */
const REFRESH_MS = 3000;
const ADDRESS = '127.0.0.1';

type Handler = (context: RequestContext) => Promise<void> | void;

interface RequestContext {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** Number in the path, of an operation. */
  readonly id: number;
}

export class UiServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #connections: ConnectionLimit;
  readonly #token = createToken();
  readonly #things: Things;
  readonly #operations: Operations;
  readonly #metrics = new OperationMetrics();
  readonly #events: EventHub;
  readonly #closing = new AbortController();
  readonly #version: string;
  #port = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  private constructor(options: UiOptions) {
    const directories = new Directories(options.directories, () =>
      this.#events.publish('directories', directories.entries),
    );
    const vms = new VmList(options.sockets ?? [], options.findRunning ?? true, () =>
      this.#events.publish('vms', vms.entries),
    );
    const saved = new SavedList(directories, () => this.#events.publish('saved', saved.entries));
    this.#things = { directories, vms, saved };
    this.#version = options.version ?? '';
    this.#operations = new Operations(
      (entry) => this.#events.publish('operation', entry),
      (entry) => {
        this.#metrics.count(entry);
        inBackground(saved.refresh());
      },
      (id) => this.#events.publish('operation-gone', { id }),
    );
    this.#events = new EventHub(randomUUID(), () => this.#present());
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#connections = new ConnectionLimit(this.#server);
    this.#server.requestTimeout = 30_000;
    // A connection that cannot be accepted, for want of descriptors, ends neither the server nor its operations.
    this.#server.on('error', () => {});
  }

  /**
   * Starts to serve.
   *
   * @throws MapramError `IO` for a directory that is not there or a port in use
   */
  static async start(options: UiOptions): Promise<UiServer> {
    const ui = new UiServer(options);
    try {
      await ui.#listen(options.port ?? 0);
      for (const builtin of options.builtins ?? []) await ui.#things.vms.startBuiltin(builtin, 'running');
      await Promise.all([ui.#things.saved.refresh(), ui.#things.vms.refresh()]);
      if (options.measureDisks ?? true) {
        for (const directory of ui.#things.directories.paths) inBackground(ui.#measure(directory));
      }
      ui.#timer = setInterval(() => ui.#refreshWatched(), REFRESH_MS);
      return ui;
    } catch (error) {
      await ui.close();
      throw error;
    }
  }

  /** What to open in a browser. It holds the token: whoever knows it has the rights of this process. */
  get url(): string {
    return `http://${ADDRESS}:${this.#port}/${this.#token}/`;
  }

  /** Cancels all operations, waits until they have put everything back, and ends. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#operations.close();
    this.#closing.abort(new MapramError('CANCELLED', 'the page is being closed'));
    this.#events.close();
    if (this.#server.listening) {
      const closed = once(this.#server, 'close');
      this.#server.close();
      this.#server.closeAllConnections();
      await closed;
    }
    await this.#things.vms[Symbol.asyncDispose]();
  }

  async #listen(port: number): Promise<void> {
    try {
      this.#server.listen(port, ADDRESS);
      await once(this.#server, 'listening');
    } catch (cause) {
      throw new MapramError(
        'IO',
        `serving the page on ${ADDRESS}:${port}: ${errorReason(cause)}; choose another --port`,
        { cause },
      );
    }
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  #present(): PageEvent[] {
    const { vms, saved, directories } = this.#things;
    return [
      { name: 'hello', data: { version: this.#version, operations: OPERATION_KINDS } },
      { name: 'directories', data: directories.entries },
      { name: 'vms', data: vms.entries },
      { name: 'saved', data: saved.entries },
      { name: 'operations', data: this.#operations.entries },
    ];
  }

  #refreshWatched(): void {
    if (this.#events.pages === 0) return;
    inBackground(this.#things.vms.refresh());
    inBackground(this.#things.saved.refresh());
  }

  /** A trial beside an operation would slow both down and measure neither. */
  async #measure(directory: string): Promise<void> {
    if (this.#operations.active) {
      throw new MapramError(
        'BUSY',
        `measuring the disk of ${directory}: operations are under way; wait for them`,
      );
    }
    await this.#things.directories.measure(directory, this.#closing.signal);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Connections may break at any time; there is nobody to tell.
    response.on('error', () => {});
    try {
      const url = new URL(request.url ?? '/', 'http://localhost');
      const [, token = '', ...rest] = url.pathname.split('/');
      // Always both, so that the time does not tell which one failed.
      const known = isToken(token, this.#token);
      const foreign = foreignRequest(request.headers, this.#port);
      if (!known || foreign !== undefined) {
        throw new RequestError(
          403,
          foreign ?? 'open the address that `mapram ui` printed: it holds a token',
          {
            Connection: 'close',
          },
        );
      }
      this.#connections.know(request.socket);
      if (rest.length === 0) {
        // Relative addresses in the page need the slash.
        return send(response, 308, 'text/plain', '', { Location: `/${token}/` });
      }
      await this.#route(rest.join('/'), { request, response, query: url.searchParams, id: 0 });
    } catch (error) {
      sendError(response, error);
    }
  }

  async #route(path: string, context: RequestContext): Promise<void> {
    const { request, response } = context;
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '');
    const [, before, id, after = ''] = /^(api\/operations)\/(\d{1,9})(\/cancel)?$/.exec(path) ?? [];
    const route = before === undefined ? path : `${before}/N${after}`;
    const handlers = Object.hasOwn(this.#handlers, route) ? this.#handlers[route] : undefined;
    if (handlers === undefined) {
      const file = path.startsWith('api/') ? undefined : await readPageFile(path);
      if (file === undefined) throw new RequestError(404, `there is nothing at ${path}`);
      if (method !== 'GET') throw notAllowed(['GET']);
      return send(response, 200, file.type, file.body);
    }
    const handler = handlers[method];
    if (handler === undefined) throw notAllowed(Object.keys(handlers));
    await handler({ ...context, id: Number(id) });
  }

  readonly #handlers: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
    'api/state': {
      GET: ({ response }) =>
        sendJson(response, 200, Object.fromEntries(this.#present().map(({ name, data }) => [name, data]))),
    },
    'api/events': {
      GET: ({ request, response }) => {
        this.#events.open(response, request.headers['last-event-id']?.toString());
        this.#refreshWatched();
      },
    },
    'api/refresh': {
      POST: async ({ response }) => {
        await Promise.all([this.#things.vms.refresh(), this.#things.saved.refresh()]);
        sendJson(response, 200, {});
      },
    },
    'api/operations': {
      POST: async ({ request, response }) => {
        const work = workFor(await readJson(request), this.#things);
        sendJson(response, 202, this.#operations.begin(work));
      },
      DELETE: ({ response }) => {
        this.#operations.dismissEnded();
        sendJson(response, 200, {});
      },
    },
    'api/operations/N': {
      DELETE: ({ response, id }) => {
        this.#operations.dismiss(id);
        sendJson(response, 200, {});
      },
    },
    'api/operations/N/cancel': {
      POST: ({ response, id }) => sendJson(response, 202, this.#operations.cancel(id)),
    },
    'api/speed': {
      POST: async ({ request, response }) => {
        const { directory } = parseRequest(DirectoryRequest, await readJson(request));
        await this.#measure(directory);
        sendJson(response, 200, {});
      },
    },
    'api/monitor': {
      GET: async ({ response, query }) => {
        const vm = required(query, 'vm');
        sendJson(
          response,
          200,
          await this.#things.vms.converse(vm, (connection) => readMonitor(vm, connection)),
        );
      },
      POST: async ({ request, response }) => {
        const { vm, ...changes } = parseRequest(MonitorRequest, await readJson(request));
        const state = await this.#things.vms.converse(vm, (connection) =>
          changeMonitor(vm, connection, changes),
        );
        sendJson(response, 200, state);
      },
    },
    'api/run-state': {
      POST: async ({ request, response }) => {
        const { vm, action } = parseRequest(RunStateRequest, await readJson(request));
        // One that has ended is nothing more.
        sendJson(response, 200, (await this.#things.vms.change(vm, action)) ?? {});
      },
    },
    'api/remove': {
      POST: async ({ request, response }) => {
        const { file } = parseRequest(FileRequest, await readJson(request));
        sendJson(response, 200, await this.#things.saved.remove(file));
      },
    },
    'api/map': {
      GET: async ({ response, query }) => {
        const { file } = this.#things.saved.entry(required(query, 'file'));
        sendJson(response, 200, await memoryMap(file));
      },
    },
    report: {
      GET: async ({ response, query }) => {
        const { file } = this.#things.saved.entry(required(query, 'file'));
        await sendReport(response, file);
      },
    },
    comparison: {
      GET: async ({ response, query }) => {
        const before = this.#things.saved.entry(required(query, 'before'));
        const after = this.#things.saved.entry(required(query, 'after'));
        await sendComparison(response, before.file, after.file);
      },
    },
    metrics: {
      GET: ({ response }) =>
        send(response, 200, EXPOSITION_TYPE, formatMetrics(this.#metrics.collect(this.#operations.entries))),
    },
    'api/plan': {
      GET: async ({ response, query }) => {
        const { file } = this.#things.saved.entry(required(query, 'file'));
        sendJson(response, 200, await launchPlan(file));
      },
    },
    'api/devices': {
      GET: async ({ response, query }) => {
        const { file } = this.#things.saved.entry(required(query, 'file'));
        sendJson(response, 200, await savedDevices(file));
      },
    },
  };
}

/** What nobody waits for. It is tried again soon, or asked for again; that it failed must not end the process. */
function inBackground(work: Promise<unknown>): void {
  work.catch(() => {});
}

function notAllowed(methods: readonly string[]): RequestError {
  return new RequestError(405, `only ${methods.join(' and ')} here`, { Allow: methods.join(', ') });
}

function required(query: URLSearchParams, name: string): string {
  const value = query.get(name);
  if (value === null) throw new RequestError(400, `the address lacks ${name}=`);
  return value;
}
