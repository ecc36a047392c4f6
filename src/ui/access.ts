/**
 * Who may talk to the page's server: a browser that was opened with the address that `mapram ui` printed, and nobody
 * else.
 *
 * The server listens on the loopback interface, which other users of the machine and every web page in the user's
 * browser can reach as well. So each request must
 *
 * - carry the token as the first part of its path: other users do not know it;
 * - name the server as the loopback interface: a foreign name that was made to point here (DNS rebinding) is refused;
 * - come from the page itself, if the browser says where it comes from.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** 192 random bits, in characters that need no escaping in an address. */
export function createToken(): string {
  return randomBytes(24).toString('base64url');
}

/** Compares in a time that does not depend on how much of it is right. */
export function isToken(given: string, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

/**
 * Looks at everything but the token.
 *
 * @returns why the request is refused, or undefined
 */
export function foreignRequest(headers: IncomingHttpHeaders, port: number): string | undefined {
  const { host, origin } = headers;
  const own = [`127.0.0.1:${port}`, `localhost:${port}`];
  if (host === undefined || !own.includes(host.toLowerCase())) {
    return `this server is called 127.0.0.1:${port} only`;
  }
  if (origin !== undefined && !own.some((name) => origin.toLowerCase() === `http://${name}`)) {
    return 'requests of other pages are not answered';
  }
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return 'requests of other pages are not answered';
  }
  return undefined;
}
