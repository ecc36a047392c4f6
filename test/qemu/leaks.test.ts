/** The short form of `npm run soak -- leaks`. */

import { rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { assertNothingLeaked, operationsOn, repeated } from '../trust/leaks.js';

/**
 * How often each is done before and while it is watched: V8 and the allocator need some rounds until they map no more, and what leaked
 * before (10 to 55 mappings a save) would show. `npm run soak -- leaks` does them by the thousand.
 */
const COUNTS = {
  shared: { warmUp: 20, count: 30 },
  'shared-16': { warmUp: 20, count: 6 },
  stream: { warmUp: 24, count: 15 },
  native: { warmUp: 10, count: 22 },
  verify: { warmUp: 20, count: 40 },
  cancelled: { warmUp: 20, count: 30 },
  load: { warmUp: 20, count: 30 },
  monitor: { warmUp: 20, count: 45 },
};

describe('a process that does it again and again', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let vm: TestVm;
  let folder: string;
  before(async () => {
    folder = temporaryFolder('leaks');
    vm = await startVm({ memory: 'shared-file' });
    await operationsOn(vm, path.join(folder, 'vm')).shared?.(0);
  });
  after(async () => {
    await vm[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const [name, { warmUp, count }] of Object.entries(COUNTS)) {
    test(`holds no more mappings, descriptors, threads and memory afterwards: ${name} (F11)`, async (context) => {
      const operation = operationsOn(vm, path.join(folder, 'vm'))[name];
      if (operation === undefined) throw new Error(`there is no operation ${name}`);
      const figures = await repeated(operation, warmUp, count);
      context.diagnostic(JSON.stringify(figures));
      assertNothingLeaked(figures, count);
    });
  }
});
