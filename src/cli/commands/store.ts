/** The commands of `mapram store`. */
import type { CommandDescription } from '../command.js';
import { storeInit } from './store-init.js';
import { storeList } from './store-list.js';
import { storePrune } from './store-prune.js';
import { storePull } from './store-pull.js';
import { storePush } from './store-push.js';
import { storeRemove } from './store-remove.js';
import { storeVerify } from './store-verify.js';

export const store: readonly CommandDescription[] = [
  storeInit,
  storePush,
  storePull,
  storeList,
  storeVerify,
  storeRemove,
  storePrune,
];
