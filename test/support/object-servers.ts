/** Real servers on loopback for the tests of stores: Debian's OCI registry, and Ceph's S3 gateway over a store in memory. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repositoryRoot } from './environment.js';

/** What `needs` must find for each. */
export const REGISTRY_TOOLS = ['docker-registry', 'htpasswd', 'curl'];
export const S3_TOOLS = ['ceph-mon', 'ceph-osd', 'radosgw', 'curl'];

export interface RegistryServer extends Disposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** Removes what no manifest names. The registry is down meanwhile. */
  collectGarbage(): void;
}

export interface S3Server extends Disposable {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly bucket: string;
}

/** @param login makes the registry ask for it */
export function startRegistry(login?: { user: string; password: string }): RegistryServer {
  const server = new Server('registry-server.sh');
  const { host } = server.start(login === undefined ? [] : [login.user, login.password]) as { host: string };
  return {
    host,
    collectGarbage: () => server.run('gc'),
    [Symbol.dispose]: () => server[Symbol.dispose](),
  };
}

export function startS3(): S3Server {
  const server = new Server('s3-server.sh');
  return {
    ...(server.start([]) as Omit<S3Server, keyof Disposable>),
    [Symbol.dispose]: () => server[Symbol.dispose](),
  };
}

class Server implements Disposable {
  readonly #folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-server-'));

  constructor(private readonly script: string) {}

  /** Waits until it answers. */
  start(more: readonly string[]): unknown {
    try {
      return JSON.parse(this.run('start', '0', ...more));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  run(command: string, ...more: string[]): string {
    return execFileSync(path.join(repositoryRoot, 'scripts', this.script), [command, this.#folder, ...more], {
      encoding: 'utf8',
      env: { ...process.env, S3_STORE: 'memstore' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  [Symbol.dispose](): void {
    this.run('stop');
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
