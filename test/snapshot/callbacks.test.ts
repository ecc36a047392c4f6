/** A caller's own code inside an operation: callbacks that throw, and signals that abort, each with a reason of their own. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('callbacks');

async function savedFile(): Promise<string> {
  await using guest = await BuiltinGuest.start({ size: 16 << 20 });
  const file = path.join(folder, 'saved.mapram');
  await save({ vm: guest, file, force: true });
  return file;
}

describe('a callback that throws rejects the operation, and the VM continues (B4)', () => {
  const failures: Record<string, () => unknown> = {
    'by throwing': () => {
      throw new Error('mine');
    },
    'by a promise': async () => {
      throw new Error('mine');
    },
  };
  for (const [how, onProgress] of Object.entries(failures)) {
    test(`save, ${how}`, async () => {
      await using guest = await BuiltinGuest.start({ size: 16 << 20 });
      const file = path.join(folder, 'never.mapram');
      await assert.rejects(save({ vm: guest, file, onProgress: onProgress as () => void }), {
        message: 'mine',
      });
      assert.equal(existsSync(file), false, 'the file is there');
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.includes('never')),
        [],
      );
      assert.equal(guest.runState, 'running');
    });
  }

  test('restore', async () => {
    const file = await savedFile();
    await using waiting = await BuiltinGuest.start({ size: 16 << 20, begin: 'incoming' });
    const onProgress = () => {
      throw new Error('mine');
    };
    await assert.rejects(restore({ file, vm: waiting, onProgress }), { message: 'mine' });
  });
});

describe('an abort rejects with CANCELLED and the reason as cause, whatever the reason is (B3)', () => {
  const own = new Error('mine');
  const reasons: Record<string, unknown> = {
    'an error': own,
    'no reason': undefined,
    'a string': 'enough',
    'a time-out': new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
  };
  for (const [what, reason] of Object.entries(reasons)) {
    const aborted = () => AbortSignal.abort(reason);
    const isCancelled = (error: unknown) => {
      assert.ok(error instanceof MapramError, String(error));
      assert.equal(error.code, 'CANCELLED');
      if (reason !== undefined) assert.equal(error.cause, reason);
      return true;
    };

    test(`${what}, before save, verify and inspect`, async () => {
      const file = await savedFile();
      await using guest = await BuiltinGuest.start({ size: 16 << 20 });
      const target = path.join(folder, 'cancelled.mapram');
      await assert.rejects(save({ vm: guest, file: target, signal: aborted() }), isCancelled);
      await assert.rejects(verify({ file, signal: aborted() }), isCancelled);
      await assert.rejects(inspect({ file, signal: aborted() }), isCancelled);
      assert.equal(existsSync(target), false, 'the file is there');
    });

    test(`${what}, in the middle of a save`, async () => {
      await using guest = await BuiltinGuest.start({ size: 16 << 20 });
      const target = path.join(folder, 'cancelled.mapram');
      const controller = new AbortController();
      const onProgress = () => controller.abort(reason);
      const { signal } = controller;
      await assert.rejects(save({ vm: guest, file: target, signal, onProgress }), isCancelled);
      assert.equal(existsSync(target), false, 'the file is there');
    });
  }
});
