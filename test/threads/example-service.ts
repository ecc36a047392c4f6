/** A service that does what a test asks of it. */
import { threadId } from 'node:worker_threads';
import { MapramError } from '../../src/errors.js';
import { FileIoError } from '../../src/io/file/file-io-error.js';
import { systemError } from '../../src/io/system-error.js';
import { SharedWords } from '../../src/threads/shared-words.js';
import type { ThreadService } from '../../src/threads/thread-protocol.js';

export const WORDS = ['waiters', 'signal'] as const;

export type ExampleRequest =
  | { kind: 'who' }
  | { kind: 'remember'; value: number }
  | { kind: 'fail'; how: 'mapram' | 'file' | 'system' | 'bug' | 'close' }
  | { kind: 'exit' }
  | { kind: 'wait'; words: SharedArrayBuffer };

/** Which thread it is, and what this user has had it remember. */
export interface ExampleResult {
  thread: number;
  value: number | undefined;
}

export function open(): ThreadService<ExampleRequest, ExampleResult> {
  let value: number | undefined;
  let failsToClose = false;
  return {
    carryOut(request) {
      if (request.kind === 'remember') value = request.value;
      if (request.kind === 'exit') process.exit();
      if (request.kind === 'wait') {
        const words = new SharedWords(WORDS, [], 0, request.words);
        words.add('waiters', 1);
        words.wait('signal', 0);
      }
      if (request.kind === 'fail') {
        if (request.how === 'mapram') throw new MapramError('FORMAT', 'not a file', { offset: 3 });
        if (request.how === 'file') throw new FileIoError(7, systemError(5, 'write'), true);
        if (request.how === 'system') throw systemError(28, 'write');
        if (request.how === 'bug') throw new TypeError('a mistake');
        failsToClose = true;
      }
      return { thread: threadId, value };
    },
    close() {
      if (failsToClose) throw new Error('it cannot be closed');
    },
  };
}
