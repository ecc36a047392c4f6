/** The short form of `npm run soak -- leaks`. */

import { rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { assertNothingLeaked, operationsOn, repeated } from '../trust/leaks.js';

const WARM_UP = 5;
/** How often each is done: what leaked before would be 120 mappings or more. */
const COUNTS = {
  shared: 30,
  'shared-16': 6,
  stream: 15,
  native: 25,
  verify: 40,
  cancelled: 30,
  load: 30,
  monitor: 45,
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

  for (const [name, count] of Object.entries(COUNTS)) {
    test(`holds no more mappings, descriptors, threads and memory afterwards: ${name} (F11)`, async (context) => {
      const operation = operationsOn(vm, path.join(folder, 'vm'))[name];
      if (operation === undefined) throw new Error(`there is no operation ${name}`);
      const figures = await repeated(operation, WARM_UP, count);
      context.diagnostic(JSON.stringify(figures));
      assertNothingLeaked(figures, count);
    });
  }
});
