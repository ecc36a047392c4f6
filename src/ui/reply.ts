/** Reading requests and writing answers: what every answer has in common. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorReason, MapramError, type MapramErrorCode } from '../errors.js';

/** No request of the page is longer. */
const MAX_BODY_BYTES = 64 * 1024;

/** Sent with every answer. Nothing is loaded from elsewhere, nothing inline runs, nobody frames the page. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'X-Content-Type-Options': 'nosniff',
  // The address holds the token.
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

/** A request that is answered with an error of its own status. */
export class RequestError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** JSON that any browser reads without loss: integers beyond 2^53 - 1 become strings, bytes hexadecimal. */
export function toPageJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member === 'bigint') {
      const number = Number(member);
      return Number.isSafeInteger(number) ? number : member.toString();
    }
    return member instanceof Uint8Array ? Buffer.from(member).toString('hex') : member;
  });
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', toPageJson(value));
}

export function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    ...SECURITY_HEADERS,
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}

/** Answers with what went wrong: `{"error":{"code","message"}}`. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, code, message, headers } = describeError(error);
  const body = toPageJson({ error: { code, message } });
  send(response, status, 'application/json; charset=utf-8', body, headers);
}

function describeError(error: unknown): {
  status: number;
  code: string;
  message: string;
  headers?: Readonly<Record<string, string>>;
} {
  if (error instanceof RequestError) {
    return { status: error.status, code: 'REQUEST', message: error.message, headers: error.headers };
  }
  if (error instanceof MapramError) {
    return { status: STATUS[error.code] ?? 422, code: error.code, message: error.message };
  }
  return { status: 500, code: 'INTERNAL', message: errorReason(error) };
}

/** Everything else is 422: understood, and not possible. */
const STATUS: Partial<Record<MapramErrorCode, number>> = { USAGE: 400, BUSY: 409, EXISTS: 409 };

/** Reads the body of a request as JSON. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  // A form of another page cannot send this type without asking first.
  if (type !== 'application/json') throw new RequestError(415, 'the body must be application/json');
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) {
      throw new RequestError(413, `the body is longer than ${MAX_BODY_BYTES} bytes`, { Connection: 'close' });
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RequestError(400, 'the body is not JSON');
  }
}
