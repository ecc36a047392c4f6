/** Talking to the server. All addresses are relative to the page's own, which holds the token. */

import { inPageWords } from './option-words.js';

/** @param {string} path */
export function addressOf(path) {
  return new URL(`api/${path}`, document.baseURI);
}

/**
 * @param {string} path
 * @param {Record<string, string>} [query]
 */
export function get(path, query = {}) {
  const address = addressOf(path);
  address.search = new URLSearchParams(query).toString();
  return answer(fetch(address));
}

/**
 * @param {string} path
 * @param {object} [body]
 */
export function post(path, body = {}) {
  const headers = { 'Content-Type': 'application/json' };
  return answer(fetch(addressOf(path), { method: 'POST', headers, body: JSON.stringify(body) }));
}

/** @param {string} path */
export function remove(path) {
  return answer(fetch(addressOf(path), { method: 'DELETE' }));
}

/**
 * @param {Promise<Response>} pending
 * @returns {Promise<any>} what the server answered; its own words are thrown as an Error
 */
async function answer(pending) {
  const response = await pending.catch(() => {
    throw new Error('mapram does not answer; is `mapram ui` still running?');
  });
  const body = await response.json().catch(() => ({}));
  if (!response.ok)
    throw new Error(inPageWords(body.error?.message ?? `the server answered ${response.status}`));
  return body;
}
