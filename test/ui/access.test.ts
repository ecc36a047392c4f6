import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { createToken, foreignRequest, isToken } from '../../src/ui/access.js';
import { PAGE_FOLDER } from '../../src/ui/page-files.js';
import { ask, TestUi } from './ui-client.js';

test('tokens are long, of characters that an address takes as they are, and never the same', () => {
  const tokens = new Set(Array.from({ length: 100 }, createToken));
  assert.equal(tokens.size, 100);
  for (const token of tokens) assert.match(token, /^[\w-]{32}$/);
});

test('only the very token is one', () => {
  const token = createToken();
  assert.equal(isToken(token, token), true);
  for (const wrong of ['', token.slice(1), `${token}A`, token.toLowerCase(), createToken()]) {
    assert.equal(isToken(wrong, token), wrong === token);
  }
});

test('hosts and origins other than the own are foreign', () => {
  const own = { host: '127.0.0.1:8080' };
  for (const headers of [
    own,
    { host: 'localhost:8080' },
    { ...own, origin: 'http://127.0.0.1:8080' },
    { ...own, 'sec-fetch-site': 'none' },
    { ...own, 'sec-fetch-site': 'same-origin' },
  ]) {
    assert.equal(foreignRequest(headers, 8080), undefined, JSON.stringify(headers));
  }
  for (const headers of [
    {},
    { host: '127.0.0.1' },
    { host: '127.0.0.1:8081' },
    { host: 'evil.example:8080' },
    { host: '127.0.0.1:8080.evil.example' },
    { ...own, origin: 'http://evil.example' },
    { ...own, origin: 'https://127.0.0.1:8080' },
    { ...own, origin: 'null' },
    { ...own, 'sec-fetch-site': 'cross-site' },
    { ...own, 'sec-fetch-site': 'same-site' },
  ]) {
    assert.notEqual(foreignRequest(headers, 8080), undefined, JSON.stringify(headers));
  }
});

test('nothing is answered without the token, to another name or to another page', async () => {
  await using ui = await TestUi.start();
  const { port, pathname } = new URL(ui.server.url);
  assert.equal((await ui.ask('')).status, 200);
  assert.equal((await ui.ask('api/state')).status, 200);

  for (const path of ['/', '/api/state', '/x/', '/x/api/state', pathname.toUpperCase(), '/style.css']) {
    const { status, text } = await ask(new URL(path, ui.server.url));
    assert.equal(status, 403, path);
    assert.doesNotMatch(text, new RegExp(pathname.slice(1, -1)));
  }
  for (const headers of [
    { Host: `evil.example:${port}` },
    { Host: `127.0.0.1:${Number(port) + 1}` },
    { Origin: 'http://evil.example' },
    { 'Sec-Fetch-Site': 'cross-site' },
  ]) {
    for (const path of ['', 'api/state', 'api/events']) {
      assert.equal((await ui.ask(path, { headers })).status, 403, `${JSON.stringify(headers)} ${path}`);
    }
    assert.equal((await ui.ask('api/refresh', { body: {}, headers })).status, 403);
  }
  assert.equal((await ui.ask('api/state', { headers: { Host: `localhost:${port}` } })).status, 200);
});

test('the server listens on the loopback interface only', async () => {
  await using ui = await TestUi.start();
  assert.equal(new URL(ui.server.url).hostname, '127.0.0.1');
});

test('the address without its last slash leads to the page', async () => {
  await using ui = await TestUi.start();
  const { pathname } = new URL(ui.server.url);
  const { status, headers } = await ask(new URL(pathname.slice(0, -1), ui.server.url));
  assert.equal(status, 308);
  assert.equal(headers.location, pathname);
});

test('all files of the page are served, and nothing else of the package', async () => {
  await using ui = await TestUi.start();
  for (const name of readdirSync(PAGE_FOLDER)) {
    const { status, headers } = await ui.ask(name);
    assert.equal(status, 200, name);
    assert.match(
      headers['content-type'] ?? '',
      /^(text\/(html|css|javascript); charset=utf-8|image\/svg\+xml)$/,
    );
  }
  for (const name of ['../reply.ts', '..%2freply.ts', '%2e%2e/reply.ts', 'main.ts', 'page/main.js', 'api/']) {
    const { status } = await ui.ask(name);
    assert.ok(status === 404 || status === 403, `${name}: ${status}`);
  }
});

test('every answer forbids foreign and inline code', async () => {
  await using ui = await TestUi.start();
  const answers = await Promise.all([
    ui.ask(''),
    ui.ask('main.js'),
    ui.ask('api/state'),
    ui.ask('nothing'),
    ask(new URL('/', ui.server.url)),
  ]);
  for (const { headers } of answers) {
    const policy = headers['content-security-policy']?.toString() ?? '';
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['access-control-allow-origin'], undefined);
  }
  const page = answers[0]?.text ?? '';
  assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)|\son\w+=|style=|https?:/);
});
