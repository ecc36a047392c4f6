import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorReason, MapramError } from '../errors.js';
import { ConnectionLimit } from '../io/socket/connection-limit.js';
import { formatSocketAddress } from '../qmp/socket-address.js';
import { EXPOSITION_TYPE, formatMetrics, type Metric } from './exposition.js';

/** Serves metrics over HTTP for Prometheus, at `/metrics` and nowhere else. */
export class MetricsServer implements AsyncDisposable {
  private constructor(
    private readonly server: Server,
    /** `http://HOST:PORT/metrics`, with the port that was really taken. */
    readonly url: string,
  ) {}

  /**
   * @param host loopback unless others may see the figures: there is no password
   * @param port 0 takes a free one
   * @throws MapramError `IO` where the port cannot be listened on
   */
  static async open(
    host: string,
    port: number,
    collect: () => Promise<readonly Metric[]>,
  ): Promise<MetricsServer> {
    const server = createServer((request, response) => {
      response.setHeader('connection', 'close');
      if (request.url !== '/metrics') {
        response.writeHead(404).end('metrics are at /metrics\n');
        return;
      }
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        response.writeHead(405, { allow: 'GET, HEAD' }).end();
        return;
      }
      collect()
        .then(formatMetrics)
        .then(
          (text) => response.writeHead(200, { 'content-type': EXPOSITION_TYPE }).end(text),
          (error: unknown) => response.writeHead(503).end(`${errorReason(error)}\n`),
        );
    });
    // Nobody needs a token here, so that no connection stays.
    new ConnectionLimit(server);
    // A connection that cannot be accepted, for want of descriptors, ends neither the server nor its process.
    server.on('error', () => {});
    server.listen(port, host);
    try {
      await once(server, 'listening');
    } catch (error) {
      throw new MapramError(
        'IO',
        `serving metrics on ${formatSocketAddress({ host, port })}: ${errorReason(error)}; choose another port`,
        { cause: error },
      );
    }
    const { port: taken } = server.address() as AddressInfo;
    const name = host.includes(':') ? `[${host}]` : host;
    return new MetricsServer(server, `http://${name}:${taken}/metrics`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
    });
  }
}
