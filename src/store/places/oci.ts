/**
 * A store in a repository of any registry of OCI 1.1: `oci://HOST/REPOSITORY`.
 *
 * ```text
 * key               in the registry
 * packs/SHA-256     the blob sha256:SHA-256
 * roots/NAME/ID     the manifest with the tag NAME.ID:  config = the root, layers = its packs
 * store.json        the manifest with the tag mapram-store:  config = the description
 * ```
 *
 * The registry itself frees blobs that no manifest names, so pushes need no claims here: a manifest whose packs are gone is refused.
 */

import { createHash } from 'node:crypto';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import {
  CONFIG_KEY,
  damaged,
  MAXIMUM_PACK_BYTES,
  PACK_KEY,
  ROOT_KEY,
  rootKey,
  SNAPSHOT_ID,
} from '../format.js';
import { unusable } from '../open-place.js';
import type { GetOptions, ListedObject, Place } from '../place.js';
import { describeAnswer, type HttpAnswer, type HttpRequest, objectOf, sendRequest } from './http-requests.js';
import { RegistryAuth } from './registry-auth.js';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const ARTIFACT_TYPE = 'application/vnd.mapram.snapshot.v1';
const ROOT_TYPE = 'application/vnd.mapram.snapshot.root.v1';
const STORE_TYPE = 'application/vnd.mapram.store.v1+json';
const PACK_TYPE = 'application/vnd.mapram.pack.v1';
/** What a manifest without layers has as its only one: registries refuse an empty list. */
const EMPTY = { mediaType: 'application/vnd.oci.empty.v1+json', bytes: Buffer.from('{}') };
const STORE_TAG = 'mapram-store';
/** Registries take manifests up to 4 MiB. */
const MAXIMUM_MANIFEST = 4 << 20;
const TAG_PAGES = 10_000;
const UPLOAD_ATTEMPTS = 3;

export function openRegistry(address: string): Place {
  const [, host = '', repository = ''] = /^oci:\/\/([^/]+)\/(.+)$/.exec(address) ?? [];
  const scheme = isLocal(host.replace(/:\d+$/, '')) ? 'http' : 'https';
  if (
    !/^[A-Za-z0-9.-]+(?::\d{1,5})?$|^\[[0-9a-f:]+\](?::\d{1,5})?$/.test(host) ||
    !URL.canParse(`${scheme}://${host}/`)
  )
    throw unusable(address, 'it should be oci://HOST/REPOSITORY');
  if (
    !/^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/.test(repository) ||
    repository.length > 255
  )
    throw unusable(
      address,
      'a repository has lower-case letters, digits and single ".", "_", "-" and "/" between them',
    );
  return new RegistryPlace(address, scheme, host, repository);
}

/** Names of this host: the only one that is asked without TLS. */
function isLocal(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

class RegistryPlace implements Place {
  readonly freesPacks = true;
  readonly #base: string;
  readonly #auth: RegistryAuth;

  constructor(
    readonly address: string,
    scheme: string,
    host: string,
    repository: string,
  ) {
    this.#base = `${scheme}://${host}/v2/${repository}`;
    this.#auth = new RegistryAuth(
      host,
      repository,
      (url) => url.protocol === 'https:' || isLocal(url.hostname),
    );
  }

  async get(key: string, options: GetOptions = {}): Promise<Buffer | undefined> {
    const pack = PACK_KEY.exec(key)?.[1];
    if (pack !== undefined) return await this.#blob(`sha256:${pack}`, key, options);
    const manifest = await this.#manifest(key);
    if (manifest === undefined) return undefined;
    const { digest, size } = configOf(manifest.body, `${this.address}/${key}`);
    if (options.maximum !== undefined && size > options.maximum)
      throw damaged(
        `${this.address}/${key}`,
        `it has ${size} bytes, more than the ${options.maximum} that it may`,
      );
    const bytes = await this.#blob(digest, key, { ...options, maximum: size });
    if (bytes === undefined)
      throw damaged(`${this.address}/${key}`, `the registry has its manifest, but not the blob ${digest}`);
    if (digestOf(bytes) !== digest) throw damaged(`${this.address}/${key}`, 'it is not what its digest says');
    return bytes;
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const pack = PACK_KEY.exec(key)?.[1];
    if (pack === undefined) throw new Error(`${key} is no blob`);
    await this.#upload(key, bytes, signal);
  }

  async create(
    key: string,
    bytes: Uint8Array,
    packs: readonly { id: string; bytes: number }[],
  ): Promise<boolean> {
    if ((await this.#manifest(key)) !== undefined) return false;
    const isStore = key === CONFIG_KEY;
    await this.#upload(key, bytes);
    if (packs.length === 0) await this.#upload(key, EMPTY.bytes);
    const empty = { mediaType: EMPTY.mediaType, digest: digestOf(EMPTY.bytes), size: EMPTY.bytes.length };
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MANIFEST_TYPE,
        artifactType: isStore ? STORE_TYPE : ARTIFACT_TYPE,
        config: { mediaType: isStore ? STORE_TYPE : ROOT_TYPE, digest: digestOf(bytes), size: bytes.length },
        layers:
          packs.length === 0
            ? [empty]
            : packs.map((pack) => ({ mediaType: PACK_TYPE, digest: `sha256:${pack.id}`, size: pack.bytes })),
      }),
    );
    if (manifest.length > MAXIMUM_MANIFEST) {
      throw new MapramError(
        'UNSUPPORTED',
        `writing ${this.address}/${key}: it has ${packs.length} packs, more than a registry's manifest can name; use a directory or S3`,
        { path: this.address },
      );
    }
    const headers = { 'content-type': MANIFEST_TYPE };
    const answer = await this.#send('writing', key, {
      method: 'PUT',
      url: this.#manifestUrl(key),
      headers,
      body: manifest,
    });
    this.#good(answer, 'writing', key, [201]);
    return true;
  }

  async size(key: string, signal?: AbortSignal): Promise<number | undefined> {
    const pack = PACK_KEY.exec(key)?.[1];
    if (pack === undefined) {
      const manifest = await this.#manifest(key);
      return manifest && configOf(manifest.body, `${this.address}/${key}`).size;
    }
    const answer = await this.#send('reading', key, {
      method: 'HEAD',
      url: this.#blobUrl(`sha256:${pack}`),
      signal,
    });
    if (answer.status === 404) return undefined;
    return Number(this.#good(answer, 'reading', key, [200]).headers.get('content-length'));
  }

  /** Roots only: what else there is a registry does not list. */
  async list(prefix: string): Promise<ListedObject[]> {
    const found: ListedObject[] = [];
    let url: string | undefined = `${this.#base}/tags/list?n=1000`;
    for (let page = 0; url !== undefined; page++) {
      if (page === TAG_PAGES) throw damaged(this.address, 'the list of tags does not end');
      const answer: HttpAnswer = await this.#send('listing', '', { method: 'GET', url });
      // A repository to which nothing was pushed yet.
      if (answer.status === 404) return [];
      this.#good(answer, 'listing', '', [200]);
      for (const tag of tagsOf(answer.body, this.address)) {
        const key = keyOfTag(tag);
        if (key?.startsWith(prefix)) found.push({ key, bytes: 0 });
      }
      url = this.#next(answer);
    }
    return found;
  }

  async remove(key: string): Promise<void> {
    const manifest = await this.#manifest(key);
    if (manifest === undefined) return;
    const url = `${this.#base}/manifests/${digestOf(manifest.body)}`;
    const answer = await this.#send('removing', key, { method: 'DELETE', url });
    this.#good(answer, 'removing', key, [200, 202, 404]);
  }

  async #blob(
    digest: string,
    key: string,
    { range, maximum, signal }: GetOptions,
  ): Promise<Buffer | undefined> {
    const headers = range && { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    const limit = range === undefined ? maximum : MAXIMUM_PACK_BYTES;
    const answer = await this.#send('reading', key, {
      method: 'GET',
      url: this.#blobUrl(digest),
      ...defined({ headers, maximum: limit }),
      signal,
    });
    if (answer.status === 404) return undefined;
    return objectOf(this.#good(answer, 'reading', key, [200, 206, 416]), `${this.address}/${key}`, range);
  }

  /** One request to begin, one with everything: what a registry takes in parts cannot go on after an error everywhere. */
  async #upload(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const digest = digestOf(bytes);
    const there = await this.#send('reading', key, { method: 'HEAD', url: this.#blobUrl(digest), signal });
    if (there.status === 200) return;
    for (let attempt = 1; ; attempt++) {
      const url = await this.#beginUpload(key, signal);
      url.searchParams.set('digest', digest);
      const headers = { 'content-type': 'application/octet-stream' };
      const request = { method: 'PUT', url: url.href, headers, body: bytes, signal };
      const answer = await this.#send('writing', key, request);
      // An upload whose connection broke is dead, in some registries: begun anew it may well go through.
      if ([404, 416].includes(answer.status) && attempt < UPLOAD_ATTEMPTS) continue;
      this.#good(answer, 'writing', key, [201]);
      return;
    }
  }

  async #beginUpload(key: string, signal: AbortSignal | undefined): Promise<URL> {
    const request = { method: 'POST', url: `${this.#base}/blobs/uploads/`, signal };
    const begun = await this.#send('writing', key, request);
    const location = this.#good(begun, 'writing', key, [202]).headers.get('location');
    if (location === null || !URL.canParse(location, this.#base))
      throw damaged(`${this.address}/${key}`, 'the registry does not say where to upload');
    const url = new URL(location, this.#base);
    if (url.origin === new URL(this.#base).origin) return url;
    throw new MapramError(
      'IO',
      `writing ${this.address}/${key}: the registry wants it uploaded to ${url.origin}, another host`,
      { path: this.address },
    );
  }

  async #manifest(key: string): Promise<HttpAnswer | undefined> {
    const answer = await this.#send('reading', key, {
      method: 'GET',
      url: this.#manifestUrl(key),
      headers: { accept: MANIFEST_TYPE },
      maximum: MAXIMUM_MANIFEST,
    });
    return answer.status === 404 ? undefined : this.#good(answer, 'reading', key, [200]);
  }

  #manifestUrl(key: string): string {
    return `${this.#base}/manifests/${tagOf(key)}`;
  }

  #blobUrl(digest: string): string {
    return `${this.#base}/blobs/${digest}`;
  }

  /** The next page of a list. */
  #next({ headers, url }: HttpAnswer): string | undefined {
    const [, link] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(headers.get('link') ?? '') ?? [];
    if (link === undefined || !URL.canParse(link, url)) return undefined;
    const next = new URL(link, url);
    return next.origin === new URL(this.#base).origin ? next.href : undefined;
  }

  /** Once more after a 401, with what the registry asks for. */
  async #send(doing: string, key: string, request: HttpRequest): Promise<HttpAnswer> {
    const what = `${doing} ${this.address}/${key}`;
    const answer = await sendRequest(request, what, () => this.#auth.headers());
    if (answer.status !== 401 || !this.#auth.challenge(answer.headers.get('www-authenticate'))) return answer;
    return await sendRequest(request, what, () => this.#auth.headers());
  }

  #good(answer: HttpAnswer, doing: string, key: string, statuses: readonly number[]): HttpAnswer {
    if (statuses.includes(answer.status)) return answer;
    const host = new URL(this.#base).host;
    const advice =
      answer.status === 401 || answer.status === 403 ? `; log in with \`docker login ${host}\`` : '';
    throw new MapramError(
      'IO',
      `${doing} ${this.address}/${key}: the registry answers ${describeAnswer(answer)}${advice}`,
      {
        path: this.address,
      },
    );
  }
}

function tagOf(key: string): string {
  if (key === CONFIG_KEY) return STORE_TAG;
  const [, name, id] = ROOT_KEY.exec(key) ?? [];
  if (name === undefined) throw new Error(`${key} has no place in a registry`);
  return `${name}.${id}`;
}

function keyOfTag(tag: string): string | undefined {
  const end = tag.lastIndexOf('.');
  const id = tag.slice(end + 1);
  return end > 0 && SNAPSHOT_ID.test(id) ? rootKey(tag.slice(0, end), id) : undefined;
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

function configOf(manifest: Buffer, where: string): Descriptor {
  const { config } = json(manifest, where) as { config?: Partial<Descriptor> };
  const { digest, size } = config ?? {};
  if (
    typeof digest !== 'string' ||
    !/^sha256:[0-9a-f]{64}$/.test(digest) ||
    !Number.isSafeInteger(size) ||
    Number(size) < 0
  )
    throw damaged(where, 'its manifest names no root');
  return config as Descriptor;
}

function tagsOf(body: Buffer, where: string): string[] {
  const { tags } = json(body, where) as { tags?: unknown };
  return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : [];
}

function json(bytes: Buffer, where: string): object {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Said below.
  }
  throw damaged(where, 'the registry answers with something else than JSON');
}
