import { after, describe } from 'node:test';
import { placeContract } from '../place-contract.js';
import { TemporaryStore } from '../temporary-store.js';

describe('a store in a directory', () => {
  const files = new TemporaryStore();
  after(() => files[Symbol.dispose]());
  let count = 0;
  placeContract(() => `dir:${files.path(`store-${++count}`)}`);
});
