import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedWords } from '../../src/threads/shared-words.js';

const WORDS = ['one', 'two'] as const;
const COUNTERS = ['bytes', 'pages'] as const;

test('words and counters lie apart, and are the same over the same memory', () => {
  const words = new SharedWords(WORDS, COUNTERS, 3);
  const same = new SharedWords(WORDS, COUNTERS, 3, words.buffer);
  words.set('one', 7);
  assert.equal(words.add('two', 2 ** 40), 0);
  words.count(0, 'bytes', 1);
  words.count(2, 'bytes', 10);
  words.count(2, 'bytes', 10);
  words.setCounter(1, 'pages', -4);
  assert.deepEqual([same.get('one'), same.get('two')], [7, 2 ** 40]);
  assert.deepEqual(same.counters(2), { bytes: 20, pages: 0 });
  assert.deepEqual(same.totals(), { bytes: 21, pages: -4 });
});

test('a word is exchanged only while it is what was expected', () => {
  const words = new SharedWords(WORDS);
  assert.ok(words.exchange('one', 0, 5), 'the word was not exchanged');
  assert.ok(!words.exchange('one', 0, 6), 'the word was exchanged although it had another value');
  assert.equal(words.get('one'), 5);
});

test('nobody falls asleep on a word that has changed', () => {
  const words = new SharedWords(WORDS);
  const seen = words.get('one');
  words.raise('one');
  words.wait('one', seen);
  assert.equal(words.get('one'), 1);
});
