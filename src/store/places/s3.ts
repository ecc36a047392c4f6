/**
 * A store in a bucket of Amazon S3, or of anything that speaks like it: `s3://BUCKET/PREFIX`.
 *
 * Endpoint, region and credentials come from where the tools of AWS look for them: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION or
 * AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and the profile AWS_PROFILE of ~/.aws/config and
 * ~/.aws/credentials. Addresses have the bucket in their path, which every service understands. Objects are at most 64 MiB, so none needs
 * a multipart upload.
 */

import { createHash } from 'node:crypto';
import { AwsV4Signer } from 'aws4fetch';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { MAXIMUM_PACK_BYTES } from '../format.js';
import { unusable } from '../open-place.js';
import type { GetOptions, ListedObject, Place } from '../place.js';
import { type AwsSettings, awsSettings } from './aws-settings.js';
import { describeAnswer, type HttpAnswer, type HttpRequest, objectOf, sendRequest } from './http-requests.js';

/** As many as S3 gives at once. */
const LIST_PAGES = 100_000;

export function openS3(address: string): Place {
  const [, bucket, prefix = ''] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(address) ?? [];
  if (bucket === undefined) throw unusable(address, 'it should be s3://BUCKET or s3://BUCKET/PREFIX');
  if (!/^(?:[A-Za-z0-9._-]+(?:\/(?!$)|$))*$/.test(prefix) || /(?:^|\/)\.{1,2}(?:\/|$)/.test(prefix))
    throw unusable(address, 'a prefix has letters, digits, ".", "_", "-" and "/" in it');
  return new S3Place(address, bucket, prefix === '' ? '' : `${prefix}/`, awsSettings(address));
}

class S3Place implements Place {
  readonly freesPacks = false;
  readonly #base: string;

  constructor(
    readonly address: string,
    bucket: string,
    private readonly prefix: string,
    private readonly settings: AwsSettings,
  ) {
    this.#base = `${settings.endpoint}/${bucket}`;
  }

  async get(key: string, { range, maximum, signal }: GetOptions = {}): Promise<Buffer | undefined> {
    const headers = range && { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    const answer = await this.#send('reading', key, {
      method: 'GET',
      ...defined({ headers }),
      ...(range === undefined ? (maximum === undefined ? {} : { maximum }) : { maximum: MAXIMUM_PACK_BYTES }),
      signal,
    });
    if (answer.status === 404) return undefined;
    return objectOf(this.#good(answer, 'reading', key, [200, 206, 416]), `${this.address}/${key}`, range);
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#good(
      await this.#send('writing', key, { method: 'PUT', body: bytes, signal }),
      'writing',
      key,
      [200],
    );
  }

  async create(key: string, bytes: Uint8Array): Promise<boolean> {
    const headers = { 'if-none-match': '*' };
    const answer = await this.#send('writing', key, { method: 'PUT', body: bytes, headers });
    // 409: another one is being created at this moment.
    if (answer.status === 412 || answer.status === 409) {
      // An answer may have been lost on the way: what a first attempt has written is then found by the second.
      if ((await this.size(key)) !== bytes.length) return false;
      return (await this.get(key, { maximum: bytes.length }))?.equals(bytes) === true;
    }
    this.#good(answer, 'writing', key, [200]);
    return true;
  }

  async size(key: string, signal?: AbortSignal): Promise<number | undefined> {
    const answer = await this.#send('reading', key, { method: 'HEAD', signal });
    if (answer.status === 404) return undefined;
    return Number(this.#good(answer, 'reading', key, [200]).headers.get('content-length'));
  }

  async list(prefix: string): Promise<ListedObject[]> {
    const found: ListedObject[] = [];
    let token: string | undefined;
    for (let page = 0; page < LIST_PAGES; page++) {
      const query = new URLSearchParams({ 'list-type': '2', prefix: this.prefix + prefix });
      if (token !== undefined) query.set('continuation-token', token);
      const answer = await this.#send('listing', '', { method: 'GET' }, `?${query}`);
      const text = this.#good(answer, 'listing', '', [200]).body.toString('utf8');
      for (const [, entry = ''] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const key = unescaped(/<Key>([^<]*)<\/Key>/.exec(entry)?.[1] ?? '');
        const bytes = Number(/<Size>(\d+)<\/Size>/.exec(entry)?.[1]);
        if (key.startsWith(this.prefix) && Number.isSafeInteger(bytes))
          found.push({ key: key.slice(this.prefix.length), bytes });
      }
      token = unescaped(/<NextContinuationToken>([^<]*)</.exec(text)?.[1] ?? '');
      if (token === '') return found;
    }
    throw new MapramError('FORMAT', `listing ${this.address}: the list does not end`, { path: this.address });
  }

  async remove(key: string): Promise<void> {
    this.#good(await this.#send('removing', key, { method: 'DELETE' }), 'removing', key, [200, 204, 404]);
  }

  #send(doing: string, key: string, request: Omit<HttpRequest, 'url'>, query = ''): Promise<HttpAnswer> {
    const url = query === '' ? `${this.#base}/${this.prefix}${key}` : `${this.#base}${query}`;
    const contents = createHash('sha256')
      .update(request.body ?? '')
      .digest('hex');
    const headers = { ...request.headers, 'x-amz-content-sha256': contents };
    return sendRequest({ ...request, url, headers }, `${doing} ${this.address}/${key}`, (one) =>
      this.#sign(one),
    );
  }

  /** @throws MapramError `IO` for a status that is none of these */
  #good(answer: HttpAnswer, doing: string, key: string, statuses: readonly number[]): HttpAnswer {
    if (statuses.includes(answer.status)) return answer;
    const advice =
      answer.status === 403 || answer.status === 401
        ? '; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and what they may do in this bucket'
        : answer.status === 301 || answer.status === 307
          ? '; the bucket is in another region: set AWS_REGION'
          : '';
    throw new MapramError(
      'IO',
      `${doing} ${this.address}/${key}: the server answers ${describeAnswer(answer)}${advice}`,
      {
        path: this.address,
      },
    );
  }

  async #sign({ method, url, headers = {}, body }: HttpRequest): Promise<Record<string, string>> {
    const { accessKeyId, secretAccessKey, sessionToken } = this.settings;
    if (accessKeyId === undefined || secretAccessKey === undefined) return {};
    const signer = new AwsV4Signer({
      method,
      url,
      headers,
      ...defined({ body: body === undefined ? undefined : (body as BodyInit) }),
      accessKeyId,
      secretAccessKey,
      ...defined({ sessionToken }),
      service: 's3',
      region: this.settings.region,
    });
    return Object.fromEntries((await signer.sign()).headers);
  }
}

function unescaped(text: string): string {
  const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replaceAll(/&(amp|lt|gt|quot|apos);/g, (_, name: string) => entities[name] ?? '');
}
