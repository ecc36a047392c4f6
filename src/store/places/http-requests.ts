/**
 * Requests to a place behind HTTP: retried with back-off where that may help, bounded in length, and following redirects without ever
 * taking credentials to another host.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { damaged } from '../format.js';

/** How often a request is made that fails in a way which may pass. */
const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** For one attempt, its body included: a pack of 64 MiB at 0.5 MiB/s. */
const ATTEMPT_MS = 120_000;
const REDIRECTS = 5;
/** What a server may say about an error. */
const MAXIMUM_WORDS = 64 << 10;
/** Of an answer that is not the object itself. */
const MAXIMUM_ANSWER = 16 << 20;

export interface HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Most bytes of an answer that are taken. */
  readonly maximum?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
  /** Where it came from, after redirects. */
  readonly url: string;
}

/** Adds what proves who asks. Called for each attempt, and for redirects that stay with the same host. */
export type Authorize = (request: HttpRequest) => Promise<Readonly<Record<string, string>>>;

/**
 * @param doing for errors: `reading s3://…`
 * @throws MapramError `IO` when it still fails after some attempts, `FORMAT` for an answer longer than `maximum`, `CANCELLED`. Answers
 *   of other status than 429 and 5xx are returned
 */
export async function sendRequest(
  request: HttpRequest,
  doing: string,
  authorize: Authorize,
): Promise<HttpAnswer> {
  for (let attempt = 1; ; attempt++) {
    request.signal?.throwIfAborted();
    const outcome = await attemptRequest(request, authorize);
    if ('status' in outcome && !mayPass(outcome.status)) return outcome;
    if (attempt === ATTEMPTS) throw failure(doing, outcome);
    await sleep(pauseAfter(attempt, 'status' in outcome ? outcome.headers : undefined), undefined, {
      ...defined({ signal: request.signal }),
    });
  }
}

async function attemptRequest(
  request: HttpRequest,
  authorize: Authorize,
): Promise<HttpAnswer | { cause: unknown }> {
  try {
    return await followRedirects(request, authorize);
  } catch (cause) {
    if (cause instanceof MapramError || request.signal?.aborted) throw cause;
    return { cause };
  }
}

async function followRedirects(request: HttpRequest, authorize: Authorize): Promise<HttpAnswer> {
  const home = new URL(request.url).origin;
  let { url } = request;
  for (let redirects = 0; ; redirects++) {
    const isHome = new URL(url).origin === home;
    const own = isHome ? await authorize({ ...request, url }) : {};
    const answer = await once({
      ...request,
      url,
      headers: { ...(isHome ? request.headers : withoutSecrets(request.headers)), ...own },
    });
    const location = answer.headers.get('location');
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === null) return answer;
    // What is written goes where it was meant to go, and nowhere else.
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer;
    if (redirects === REDIRECTS)
      throw new MapramError('IO', `reading ${request.url}: it is redirected again and again`);
    url = new URL(location, url).href;
    assertSafe(url, request.url);
  }
}

/** Only what a server needs to know which part is wanted. */
function withoutSecrets(headers: HttpRequest['headers'] = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => /^(?:range|accept)$/i.test(name)));
}

/** A redirect must not turn a protected connection into an open one, nor reach for anything else than the web. */
function assertSafe(url: string, from: string): void {
  const { protocol } = new URL(url);
  if (protocol === 'https:' || (protocol === 'http:' && new URL(from).protocol === 'http:')) return;
  throw new MapramError('IO', `reading ${from}: it is redirected to ${url}, which is not protected by TLS`);
}

async function once({
  method,
  url,
  headers = {},
  body,
  maximum = MAXIMUM_ANSWER,
  signal,
}: HttpRequest): Promise<HttpAnswer> {
  const timeout = AbortSignal.timeout(ATTEMPT_MS);
  const response = await fetch(url, {
    method,
    headers,
    ...defined({ body: body === undefined ? undefined : (body as BodyInit) }),
    redirect: 'manual',
    signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
  });
  return { status: response.status, headers: response.headers, body: await bodyOf(response, maximum), url };
}

/**
 * Counts what comes rather than believe what is announced. Of an answer that is no object only the beginning is of interest.
 */
async function bodyOf(response: Response, maximum: number): Promise<Buffer> {
  if (response.body === null) return Buffer.alloc(0);
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body) {
    parts.push(part);
    length += part.byteLength;
    if (!response.ok && length > MAXIMUM_WORDS) break;
    if (response.ok && length > maximum)
      throw damaged(response.url, `the answer is longer than the ${maximum} bytes that it may have`);
  }
  return Buffer.concat(parts, length);
}

/** Too many requests, and errors of the server but those that say that it will never do it. */
function mayPass(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** Doubles each time, and is a little different for everybody; what the server asks for comes first. */
function pauseAfter(attempt: number, headers: Headers | undefined): number {
  const asked = Number(headers?.get('retry-after') ?? Number.NaN) * 1000;
  if (asked >= 0) return Math.min(asked, LONGEST_PAUSE_MS);
  return Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
}

function failure(doing: string, outcome: HttpAnswer | { cause: unknown }): MapramError {
  if ('status' in outcome)
    return new MapramError('IO', `${doing}: the server answers ${describeAnswer(outcome)}`);
  const { cause } = outcome;
  // fetch wraps what really happened.
  const reason = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
  return new MapramError('IO', `${doing}: ${errorReason(reason)}`, { cause });
}

/** Status and the beginning of what is said beside it, on one line. */
export function describeAnswer({ status, body }: Pick<HttpAnswer, 'status' | 'body'>): string {
  const said = body.toString('utf8', 0, 2000);
  const [, code = '', message = ''] =
    /<Code>([^<]{1,100})<\/Code>(?:.*?<Message>([^<]{1,300})<\/Message>)?/s.exec(said) ??
    /"code":\s*"([^"]{1,100})"(?:.*?"message":\s*"([^"]{1,300})")?/s.exec(said) ??
    [];
  const details = [code, message].filter((text) => text !== '').join(': ');
  return details === '' ? `${status}` : `${status} (${details})`;
}

/** An answer that should be one object, or the part of it that was asked for. */
export function objectOf(
  answer: HttpAnswer,
  where: string,
  range: { offset: number; length: number } | undefined,
): Buffer {
  if (range === undefined) return answer.body;
  const bytes =
    answer.status === 200 ? answer.body.subarray(range.offset, range.offset + range.length) : answer.body;
  if (bytes.length === range.length) return bytes;
  throw damaged(where, `it was cut short: ${bytes.length} bytes came where ${range.length} should be`);
}
