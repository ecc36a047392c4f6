import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import { installFaults } from '../../src/io/faults.js';
import { SharedWords } from '../../src/threads/shared-words.js';
import {
  endIdleThreads,
  openThread,
  prepareThreads,
  type WorkerThread,
} from '../../src/threads/thread-pool.js';
import { ThreadFailedError, type ThreadFailure } from '../../src/threads/thread-protocol.js';
import { type ExampleRequest, type ExampleResult, WORDS } from './example-service.js';

const SERVICE = new URL('./example-service.js', import.meta.url);

type Example = WorkerThread<ExampleRequest, ExampleResult>;

function open(): Example {
  return openThread(SERVICE);
}

async function threadOf(example: Example): Promise<number> {
  return (await example.request({ kind: 'who' })).thread;
}

async function failureOf(request: Promise<unknown>): Promise<ThreadFailure> {
  const error = await request.then(
    () => assert.fail('it did not fail'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ThreadFailedError, String(error));
  return error.failure;
}

/** The thread that served one user after `use` of it, and the one that serves the next. */
async function twoUsers(use: (example: Example) => Promise<unknown>): Promise<[number, number]> {
  const first = open();
  const thread = await threadOf(first);
  await use(first);
  await first.release();
  const second = open();
  const next = await threadOf(second);
  await second.release();
  return [thread, next];
}

afterEach(endIdleThreads);

describe('a thread that is given back', () => {
  test('serves the next user, who finds nothing of the one before (F11)', async () => {
    const [thread, next] = await twoUsers((example) => example.request({ kind: 'remember', value: 5 }));
    assert.equal(next, thread);
    const third = open();
    assert.equal((await third.request({ kind: 'who' })).value, undefined);
    await third.release();
  });

  test('serves nobody before it has done what it was asked', async () => {
    const words = new SharedWords(WORDS);
    const first = open();
    const thread = await threadOf(first);
    const waiting = first.request({ kind: 'wait', words: words.buffer });
    const released = first.release();
    const second = open();
    assert.notEqual(await threadOf(second), thread);
    words.set('signal', 1);
    words.notify('signal');
    await waiting;
    await released;
    await second.release();
  });

  test('takes no request any more', async () => {
    const first = open();
    await first.release();
    assert.match((await failureOf(first.request({ kind: 'who' }))).message, /was released/);
  });

  for (const how of ['mapram', 'file', 'system'] as const) {
    test(`serves the next user after a failure that its code expects: ${how}`, async () => {
      const [thread, next] = await twoUsers((example) =>
        assert.rejects(example.request({ kind: 'fail', how }), ThreadFailedError),
      );
      assert.equal(next, thread);
    });
  }

  test('serves nobody after a failure that its code does not expect', async () => {
    const [thread, next] = await twoUsers((example) =>
      assert.rejects(example.request({ kind: 'fail', how: 'bug' }), ThreadFailedError),
    );
    assert.notEqual(next, thread);
  });

  test('serves nobody after it could not give back what it had', async () => {
    const [thread, next] = await twoUsers((example) => example.request({ kind: 'fail', how: 'close' }));
    assert.notEqual(next, thread);
  });

  test('serves nobody after it has ended', async () => {
    const [thread, next] = await twoUsers(async (example) => {
      const { message } = await failureOf(example.request({ kind: 'exit' }));
      assert.equal(message, 'its thread ended unexpectedly');
      assert.match((await failureOf(example.request({ kind: 'who' }))).message, /ended unexpectedly/);
    });
    assert.notEqual(next, thread);
  });

  test('serves nobody for whom other faults are planned', async () => {
    const first = open();
    const thread = await threadOf(first);
    await first.release();
    using _ = installFaults([]);
    const second = open();
    assert.notEqual(await threadOf(second), thread);
    await second.release();
  });
});

test('what a request fails with arrives', async () => {
  const example = open();
  assert.deepEqual(await failureOf(example.request({ kind: 'fail', how: 'mapram' })), {
    code: 'FORMAT',
    message: 'not a file',
    offset: 3,
  });
  const file = await failureOf(example.request({ kind: 'fail', how: 'file' }));
  assert.deepEqual([file.errno, file.offset, file.truncated], ['EIO', 7, true]);
  const system = await failureOf(example.request({ kind: 'fail', how: 'system' }));
  assert.deepEqual([system.errno, system.unexpected], ['ENOSPC', undefined]);
  const bug = await failureOf(example.request({ kind: 'fail', how: 'bug' }));
  assert.deepEqual([bug.message, bug.unexpected], ['a mistake', true]);
  await example.release();
});

test('a script that cannot be loaded fails the first request', async () => {
  const missing = openThread<object>(new URL('./no-service.js', import.meta.url));
  assert.match((await failureOf(missing.request({}))).message, /no-service/);
  await missing.release();
});

test('users at the same time have threads of their own, which later users share (F11)', async () => {
  const seen = new Set<number>();
  for (let round = 0; round < 3; round++) {
    const examples = Array.from({ length: 4 }, open);
    const threads = await Promise.all(examples.map(threadOf));
    assert.equal(new Set(threads).size, examples.length);
    for (const thread of threads) seen.add(thread);
    await Promise.all(examples.map((example) => example.release()));
  }
  assert.equal(seen.size, 4);
});

test('prepared threads are used even before they are ready, and no others are started', async () => {
  await endIdleThreads();
  prepareThreads<ExampleRequest>(SERVICE, 3, { kind: 'remember', value: 1 });
  prepareThreads<ExampleRequest>(SERVICE, 3, { kind: 'remember', value: 1 });
  const before = readdirSync('/proc/self/task').length;
  const examples = Array.from({ length: 3 }, open);
  const answers = await Promise.all(examples.map((example) => example.request({ kind: 'who' })));
  assert.deepEqual(
    answers.map(({ value }) => value),
    [undefined, undefined, undefined],
  );
  assert.equal(readdirSync('/proc/self/task').length, before);
  await Promise.all(examples.map((example) => example.release()));
});

test('requests are carried out in order', async () => {
  const example = open();
  const values = [1, 2, 3].map((value) => example.request({ kind: 'remember', value }));
  assert.deepEqual(
    (await Promise.all(values)).map(({ value }) => value),
    [1, 2, 3],
  );
  await example.release();
});

test('idle threads do not keep a process, and end with it', () => {
  const module = import.meta.resolve('../../src/threads/thread-pool.js');
  const script = `import('${module}').then(async ({ openThread }) => {
    const thread = openThread(new URL('${SERVICE.href}'));
    await thread.request({ kind: 'who' });
    await thread.release();
  });`;
  const { status, signal, stderr } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' });
});

test('threads that end give their descriptors back', async () => {
  await endIdleThreads();
  const before = readdirSync('/proc/self/fd').length;
  const examples = Array.from({ length: 3 }, open);
  await Promise.all(examples.map(threadOf));
  assert.ok(readdirSync('/proc/self/fd').length > before, 'no thread is running');
  await Promise.all(examples.map((example) => example.release()));
  await endIdleThreads();
  assert.equal(readdirSync('/proc/self/fd').length, before);
});
