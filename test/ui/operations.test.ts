import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { type OperationEntry, Operations, type Work, type WorkContext } from '../../src/ui/operations.js';

function collect() {
  const changes: OperationEntry[] = [];
  const gone: number[] = [];
  const ended: number[] = [];
  const operations = new Operations(
    (entry) => changes.push(entry),
    ({ id }) => ended.push(id),
    (id) => gone.push(id),
  );
  return { operations, changes, gone, ended };
}

/** Work that goes on until it is told how to end. */
function steered() {
  const { promise, resolve, reject } = deferred<{ result: object }>();
  let context: WorkContext | undefined;
  const work: Work = {
    kind: 'save',
    title: 'Save a VM',
    run(given) {
      context = given;
      given.signal.addEventListener('abort', () => reject(given.signal.reason));
      return promise;
    },
  };
  return {
    work,
    finish: resolve,
    fail: reject,
    get context() {
      assert.ok(context, 'there is no context');
      return context;
    },
  };
}

function deferred<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

const progress = (bytes: number) => ({ phase: 'RAM', bytes, totalBytes: 100, pages: 0, rate: bytes });

test('an operation tells its beginning, its newest progress and its end', async () => {
  const { operations, changes, ended } = collect();
  const steer = steered();
  const { id, state } = operations.begin(steer.work);
  assert.equal(state, 'running');
  assert.equal(operations.active, true);
  steer.finish({ result: { file: 'x' } });
  await operations.close();
  assert.deepEqual(ended, [id]);
  assert.equal(operations.active, false);
  const last = changes.at(-1);
  assert.equal(last?.state, 'done');
  assert.deepEqual(last?.result, { file: 'x' });
});

test('progress that comes often is told seldom, but the newest is always kept', async () => {
  const { operations, changes } = collect();
  const steer = steered();
  operations.begin(steer.work);
  for (let bytes = 1; bytes <= 10_000; bytes += 1) steer.context.onProgress(progress(bytes));
  assert.equal(operations.entries[0]?.progress?.bytes, 10_000);
  assert.ok(changes.length < 1000, `${changes.length} reports`);
  steer.finish({ result: {} });
  await operations.close();
});

test('warnings are kept', async () => {
  const { operations } = collect();
  const steer = steered();
  operations.begin(steer.work);
  steer.context.onWarning('no direct I/O');
  steer.finish({ result: {} });
  await operations.close();
  assert.deepEqual(operations.entries[0]?.warnings, ['no direct I/O']);
});

test('a cancelled operation is cancelled when it has put everything back, a failed one says why', async () => {
  const { operations } = collect();
  const first = steered();
  const second = steered();
  const { id } = operations.begin(first.work);
  operations.begin(second.work);
  assert.equal(operations.cancel(id).state, 'cancelling');
  second.fail(new MapramError('NO_SPACE', 'saving: the disk is full'));
  await settled();
  await operations.close();
  const [cancelled, failed] = operations.entries;
  assert.equal(cancelled?.state, 'cancelled');
  assert.equal(failed?.state, 'failed');
  assert.deepEqual(failed?.error, { code: 'NO_SPACE', message: 'saving: the disk is full' });
});

test('only ended operations leave the list, the oldest by themselves', async () => {
  const { operations, gone } = collect();
  const steer = steered();
  const { id } = operations.begin(steer.work);
  assert.throws(() => operations.dismiss(id), { status: 409 });
  assert.throws(() => operations.cancel(99), { status: 404 });
  for (let count = 0; count < 60; count += 1) {
    operations.begin({ kind: 'verify', title: 'Verify', run: async () => ({ result: {} }) });
  }
  steer.finish({ result: {} });
  await operations.close();
  assert.equal(operations.entries.length, 50);
  assert.equal(gone.length, 11);
  assert.throws(() => operations.cancel(60), { status: 409 });
  operations.dismiss(60);
  assert.equal(operations.entries.length, 49);
});
