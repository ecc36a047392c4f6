/** Servers that fail, lie or lead elsewhere: what a place behind HTTP makes of it. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openPlace } from '../../../src/store/open-place.js';
import { awsSettings } from '../../../src/store/places/aws-settings.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on loopback that notes what it was asked. */
class FakeServer implements AsyncDisposable {
  readonly asked: IncomingMessage[] = [];
  handler: Handler = (_, response) => void response.writeHead(404).end();
  readonly #server = createServer((request, response) => {
    this.asked.push(request);
    request.resume().on('end', () => this.handler(request, response));
  });

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const folder = temporaryFolder('http');
const variables = [
  'AWS_ENDPOINT_URL_S3',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'DOCKER_CONFIG',
] as const;
const earlier = variables.map((name) => process.env[name]);
let server: FakeServer;
let elsewhere: FakeServer;

before(async () => {
  [server, elsewhere] = [await new FakeServer().start(), await new FakeServer().start()];
  process.env.AWS_ENDPOINT_URL_S3 = `http://${server.host}`;
  process.env.AWS_ACCESS_KEY_ID = 'KEY';
  process.env.AWS_SECRET_ACCESS_KEY = 'SECRET';
  process.env.DOCKER_CONFIG = folder;
  const auths = { [server.host]: { auth: Buffer.from('jane:secret').toString('base64') } };
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ auths }));
});
after(async () => {
  for (const [index, name] of variables.entries()) {
    const value = earlier[index];
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  await server[Symbol.asyncDispose]();
  await elsewhere[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** Answers one after the other; the last one for all that follow. */
function serve(on: FakeServer, ...handlers: Handler[]): void {
  on.asked.length = 0;
  const left = [...handlers];
  on.handler = (request, response) => (left.length > 1 ? left.shift() : left[0])?.(request, response);
}

const answer =
  (status: number, headers: Record<string, string> = {}, body: string | Buffer = ''): Handler =>
  (_, response) =>
    void response.writeHead(status, headers).end(body);

const pack = (bytes: Buffer) => `packs/${createHash('sha256').update(bytes).digest('hex')}`;
const bytes = Buffer.from('what is in the pack');

describe('S3', () => {
  const open = () => openPlace('s3://bucket/prefix');

  test('is asked again after 503, 429 and a connection that broke', async () => {
    const cut: Handler = (_, response) =>
      void response.writeHead(200, { 'content-length': '100' }).write('x', () => response.destroy());
    const retry = { 'retry-after': '0' };
    serve(server, answer(503, retry), answer(429, retry), cut, answer(206, {}, bytes));
    const place = await open();
    assert.deepEqual(await place.get('packs/x', { range: { offset: 0, length: bytes.length } }), bytes);
    assert.equal(server.asked.length, 4);
    assert.equal(server.asked[3]?.headers.range, 'bytes=0-18');
    assert.match(String(server.asked[3]?.headers.authorization), /^AWS4-HMAC-SHA256 Credential=KEY\//);
  });

  test('gives up in the end, with the words of the server', async () => {
    const body = '<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>';
    serve(server, answer(503, { 'retry-after': '0' }, body));
    const place = await open();
    await assert.rejects(
      place.size('packs/x'),
      failsWith('IO', /^reading s3:\/\/bucket\/prefix\/packs\/x: the server answers 503/),
    );
    await assert.rejects(
      place.get('packs/x'),
      failsWith('IO', /503 \(SlowDown: Please reduce your rate\.\)$/),
    );
  });

  test('that leads to another host is followed there without credentials', async () => {
    serve(server, answer(307, { location: `http://${elsewhere.host}/there` }));
    serve(elsewhere, answer(206, {}, bytes));
    const place = await open();
    assert.deepEqual(await place.get('packs/x', { range: { offset: 0, length: bytes.length } }), bytes);
    const [asked] = elsewhere.asked;
    assert.equal(asked?.headers.range, 'bytes=0-18');
    for (const name of [
      'authorization',
      'x-amz-content-sha256',
      'x-amz-date',
      'x-amz-security-token',
      'cookie',
    ])
      assert.equal(asked?.headers[name], undefined, name);
  });

  test('that leads elsewhere with what is written is not followed', async () => {
    serve(server, answer(307, { location: `http://${elsewhere.host}/there` }));
    serve(elsewhere, answer(200));
    await assert.rejects((await open()).put('packs/x', bytes), failsWith('IO', /307.*set AWS_REGION/));
    assert.equal(elsewhere.asked.length, 0);
  });

  test('that leads in circles is left', async () => {
    serve(server, answer(302, { location: '/again' }));
    await assert.rejects((await open()).get('packs/x'), failsWith('IO', /redirected again and again/));
  });

  test('that sends more than was asked for, or less, is not believed', async () => {
    const place = await open();
    serve(server, answer(200, {}, Buffer.alloc(100_000)));
    await assert.rejects(
      place.get('store.json', { maximum: 1000 }),
      failsWith('FORMAT', /longer than the 1000 bytes/),
    );
    serve(server, answer(206, {}, bytes));
    await assert.rejects(
      place.get('packs/x', { range: { offset: 0, length: 100 } }),
      failsWith('FORMAT', /cut short: 19 bytes came where 100 should be/),
    );
    // One that does not know ranges.
    serve(server, answer(200, {}, bytes));
    assert.deepEqual(await place.get('packs/x', { range: { offset: 5, length: 2 } }), bytes.subarray(5, 7));
  });

  test('gives long lists in pages', async () => {
    const page = (key: string, more: string) =>
      `<ListBucketResult><Contents><Key>prefix/roots/${key}</Key><Size>7</Size></Contents><Contents><Key>outside</Key><Size>1</Size></Contents>${more}</ListBucketResult>`;
    serve(
      server,
      answer(200, {}, page('a&amp;b', '<NextContinuationToken>to&amp;ken</NextContinuationToken>')),
      answer(200, {}, page('c', '')),
    );
    assert.deepEqual(await (await open()).list('roots/'), [
      { key: 'roots/a&b', bytes: 7 },
      { key: 'roots/c', bytes: 7 },
    ]);
    assert.match(String(server.asked[1]?.url), /continuation-token=to%26ken/);
  });

  test('addresses that are none are refused', async () => {
    for (const address of [
      's3://',
      's3://UPPER',
      's3://bucket/../up',
      's3://bucket/a//b',
      's3://bucket/a b',
      'ftp://x',
      '/path',
    ])
      await assert.rejects(openPlace(address), failsWith('USAGE', /^opening /), address);
  });

  test('has its settings from the variables and files of AWS', () => {
    writeFileSync(
      path.join(folder, 'config'),
      '[default]\nregion = eu-central-1\n[profile work]\nendpoint_url = http://storage.local:9000/\n',
    );
    writeFileSync(
      path.join(folder, 'credentials'),
      '[default]\naws_access_key_id=A\naws_secret_access_key = B\n\n[work]\naws_access_key_id=C\naws_secret_access_key=D/+=\naws_session_token=E\n',
    );
    const files = {
      AWS_CONFIG_FILE: path.join(folder, 'config'),
      AWS_SHARED_CREDENTIALS_FILE: path.join(folder, 'credentials'),
    };
    assert.deepEqual(awsSettings('s3://b', files), {
      ...{
        endpoint: 'https://s3.eu-central-1.amazonaws.com',
        region: 'eu-central-1',
        accessKeyId: 'A',
        secretAccessKey: 'B',
      },
    });
    assert.deepEqual(awsSettings('s3://b', { ...files, AWS_PROFILE: 'work', AWS_REGION: 'x' }), {
      ...{
        endpoint: 'http://storage.local:9000',
        region: 'x',
        accessKeyId: 'C',
        secretAccessKey: 'D/+=',
        sessionToken: 'E',
      },
    });
    const own = { ...files, AWS_ACCESS_KEY_ID: 'F', AWS_SECRET_ACCESS_KEY: 'G' };
    assert.deepEqual(
      [awsSettings('s3://b', own).accessKeyId, awsSettings('s3://b', own).sessionToken],
      ['F', undefined],
    );
    assert.throws(
      () => awsSettings('s3://b', { AWS_ENDPOINT_URL: 'file:///etc' }),
      failsWith('USAGE', /no address of a web server/),
    );
  });
});

describe('a registry', () => {
  const open = () => openPlace(`oci://${server.host}/vms`);

  test('that asks for a token gets the login at the place it names, and the token afterwards', async () => {
    const challenge = {
      'www-authenticate': `Bearer realm="http://${elsewhere.host}/token",service="registry"`,
    };
    serve(server, answer(401, challenge), answer(200, {}, bytes));
    serve(elsewhere, answer(200, {}, JSON.stringify({ token: 'the-token', expires_in: 300 })));
    const place = await open();
    assert.deepEqual(await place.get(pack(bytes), { maximum: 100 }), bytes);
    assert.deepEqual(await place.get(pack(bytes), { maximum: 100 }), bytes);
    assert.equal(elsewhere.asked.length, 1);
    assert.match(
      String(elsewhere.asked[0]?.url),
      /service=registry&scope=repository%3Avms%3Apull%2Cpush%2Cdelete$/,
    );
    assert.equal(
      elsewhere.asked[0]?.headers.authorization,
      `Basic ${Buffer.from('jane:secret').toString('base64')}`,
    );
    assert.deepEqual(
      server.asked.map(({ headers }) => headers.authorization),
      [undefined, 'Bearer the-token', 'Bearer the-token'],
    );
  });

  test('that wants the login to be sent without TLS elsewhere gets none', async () => {
    serve(server, answer(401, { 'www-authenticate': 'Bearer realm="http://registry.example/token"' }));
    await assert.rejects(
      (await open()).size(pack(bytes)),
      failsWith(
        'IO',
        /wants tokens to be fetched from http:\/\/registry\.example\/token, which is not protected/,
      ),
    );
  });

  test('whose blobs lie on another host is followed there without the login', async () => {
    serve(
      server,
      answer(401, { 'www-authenticate': 'Basic realm="x"' }),
      answer(307, { location: `http://${elsewhere.host}/blob` }),
    );
    serve(elsewhere, answer(206, {}, bytes));
    assert.deepEqual(
      await (await open()).get(pack(bytes), { range: { offset: 0, length: bytes.length } }),
      bytes,
    );
    assert.match(String(server.asked[1]?.headers.authorization), /^Basic /);
    assert.equal(elsewhere.asked[0]?.headers.authorization, undefined);
  });

  test('that wants an upload to go to another host gets none', async () => {
    serve(server, answer(404), answer(202, { location: `http://${elsewhere.host}/upload` }));
    serve(elsewhere, answer(201));
    await assert.rejects(
      (await open()).put(pack(bytes), bytes),
      failsWith('IO', /uploaded to http:\/\/127\.0\.0\.1:\d+, another host/),
    );
    assert.equal(elsewhere.asked.length, 0);
  });

  test('begins an upload anew that the registry no longer knows', async () => {
    const begun = answer(202, { location: '/v2/vms/blobs/uploads/1?state=x' });
    serve(server, answer(404), begun, answer(404), begun, answer(201));
    await (await open()).put(pack(bytes), bytes);
    assert.deepEqual(
      server.asked.map(({ method }) => method),
      ['HEAD', 'POST', 'PUT', 'POST', 'PUT'],
    );
    assert.match(String(server.asked[4]?.url), /\?state=x&digest=sha256%3A[0-9a-f]{64}$/);
  });

  test('that gives something else than a manifest, or a blob that is not what it says, is named', async () => {
    const place = await open();
    const key = 'roots/vm/20260101T000000000Z-00000000';
    serve(server, answer(200, {}, '[1, 2'));
    await assert.rejects(place.get(key), failsWith('FORMAT', /something else than JSON/));
    serve(server, answer(200, {}, '{"config":{"digest":"sha256:x","size":1}}'));
    await assert.rejects(place.get(key), failsWith('FORMAT', /its manifest names no root/));
    const config = { digest: `sha256:${'0'.repeat(64)}`, size: bytes.length };
    serve(server, answer(200, {}, JSON.stringify({ config })), answer(200, {}, bytes));
    await assert.rejects(place.get(key), failsWith('FORMAT', /it is not what its digest says/));
    serve(
      server,
      answer(
        200,
        {},
        JSON.stringify({ tags: ['mapram-store', '../x', 5, 'vm.20260101T000000000Z-00000000'] }),
      ),
    );
    assert.deepEqual(await place.list('roots/'), [{ key, bytes: 0 }]);
  });

  test('addresses that are none are refused', async () => {
    for (const address of [
      'oci://',
      'oci://host',
      'oci://host/UPPER',
      'oci://host/a/../b',
      'oci://a b/c',
      'oci://user:password@host/x',
    ])
      await assert.rejects(openPlace(address), failsWith('USAGE', /^opening /), address);
  });
});
