/** The thread that all services run in, one at a time. Started by thread-pool.ts only. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type MessagePort, parentPort } from 'node:worker_threads';
import {
  type FromThread,
  failureOf,
  type OpenService,
  type ThreadService,
  type ToThread,
} from './thread-protocol.js';

const port = parentPort as MessagePort;
let service: ThreadService<unknown, unknown> | undefined;
let turn = Promise.resolve();

port.on('message', (message: ToThread) => {
  turn = turn.then(() => answer(message));
});

async function answer(message: ToThread): Promise<void> {
  if (message.kind === 'end') {
    port.close();
    return;
  }
  // The last thing that a request does: whatever it has stored in shared memory is there when the reply is read.
  port.postMessage(await replyTo(message));
}

async function replyTo(message: Exclude<ToThread, { kind: 'end' }>): Promise<FromThread> {
  try {
    return { kind: 'done', result: await carryOut(message) };
  } catch (error) {
    return { kind: 'failed', failure: failureOf(error) };
  }
}

async function carryOut(message: Exclude<ToThread, { kind: 'end' }>): Promise<unknown> {
  switch (message.kind) {
    case 'open':
      service = (await load(message.script)).open();
      return undefined;
    case 'call':
      return await service?.carryOut(message.request);
    case 'close': {
      const ending = service;
      service = undefined;
      await ending?.close?.();
      return undefined;
    }
  }
}

/** A script of the package is CommonJS, which loads without the machinery of modules. */
async function load(script: string): Promise<{ open: OpenService<unknown, unknown> }> {
  return script.endsWith('.cjs') ? createRequire(script)(fileURLToPath(script)) : await import(script);
}
