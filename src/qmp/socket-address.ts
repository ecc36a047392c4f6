import { MapramError } from '../errors.js';

/** Where a monitor is: a Unix socket, or a TCP port. */
export type SocketAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Longest path of a Unix socket on Linux, in bytes, without the NUL at its end. */
export const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Reads `PATH`, `unix:PATH`, `tcp:HOST:PORT`, `tcp:[IPV6]:PORT` or `tcp::PORT` (loopback).
 *
 * @throws MapramError `USAGE`
 */
export function parseSocketAddress(text: string): SocketAddress {
  if (text.startsWith('tcp:')) return parseTcp(text);
  const path = text.startsWith('unix:') ? text.slice('unix:'.length) : text;
  if (path === '') throw new MapramError('USAGE', 'the path of the monitor socket is empty');
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new MapramError(
      'USAGE',
      `the path of the socket ${path} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes that Linux allows; use a shorter or a relative one`,
      { path },
    );
  }
  return { path };
}

export function formatSocketAddress(address: SocketAddress): string {
  if ('path' in address) return address.path;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `tcp:${host}:${address.port}`;
}

function parseTcp(text: string): SocketAddress {
  const match = /^tcp:(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new MapramError('USAGE', `${text} is not of the form tcp:HOST:PORT`);
  }
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}
