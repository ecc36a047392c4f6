import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const MIB = 2 ** 20;
const root = temporaryFolder('round');

function memoryOf(guest: BuiltinGuest): Buffer[] {
  return guest.blocks.map(({ fd, fdOffset, usedLength }) => {
    const memory = Buffer.alloc(usedLength);
    assert.equal(readSync(fd, memory, 0, usedLength, fdOffset), usedLength);
    return memory;
  });
}

const guests = fc.record(
  {
    size: fc.constantFrom(2 * MIB, 12 * MIB, 32 * MIB),
    pattern: fc.constantFrom('random' as const, 'mixed' as const, 'zero' as const),
    // More than the save's passes can keep up with, so that it has to stop the guest with pages left.
    dirtyRate: fc.constantFrom(0, 8 * MIB, 300 * MIB),
    seed: fc.nat(1000),
    blocks: fc.constantFrom(1, 2),
  },
  { noNullPrototype: true },
);
const ways = fc.record(
  {
    live: fc.boolean(),
    running: fc.boolean(),
    channels: fc.integer({ min: 1, max: 5 }),
    loadChannels: fc.integer({ min: 1, max: 5 }),
    directIo: fc.constantFrom('auto' as const, 'off' as const),
    loadDirectIo: fc.constantFrom('auto' as const, 'off' as const),
    offset: fc.constantFrom(0, 0x1234),
  },
  { noNullPrototype: true },
);

test('whatever the guest and the way, what is loaded is what was saved, and lives on the same', async () => {
  const file = path.join(root, 'vm');
  await fc.assert(
    fc.asyncProperty(guests, ways, async (options, way) => {
      const { size, dirtyRate, blocks } = options;
      await using original = await BuiltinGuest.start({
        ...options,
        begin: way.running ? 'running' : 'paused',
      });
      const saved = await save({
        vm: original,
        file,
        force: true,
        live: way.live,
        afterwards: 'stop',
        channels: way.channels,
        directIo: way.directIo,
        offset: way.offset,
      });
      assert.equal(saved.ramBytes, size + 65536);
      assert.notEqual(original.runState, 'running');
      await using copy = await BuiltinGuest.start({ size, dirtyRate, blocks, begin: 'incoming' });
      await restore({
        file,
        vm: copy,
        channels: way.loadChannels,
        directIo: way.loadDirectIo,
        ...(way.offset === 0 ? {} : { offset: way.offset }),
      });
      if (copy.runState === 'running') await copy.stop();
      // The copy may have run since it was loaded: the original catches up.
      const ahead = copy.ticks - original.ticks;
      assert.ok(ahead >= 0, `ahead: ${ahead}`);
      await original.step(ahead + 3);
      await copy.step(3);
      assert.deepEqual(copy.saveDevices(), original.saveDevices());
      for (const [index, memory] of memoryOf(original).entries()) {
        assert.ok(memory.equals(memoryOf(copy)[index] ?? Buffer.alloc(0)), `block ${index} differs`);
      }
      assert.equal((await copy.checkMemory()).ok, true);
    }),
    { numRuns: 8, interruptAfterTimeLimit: 60_000 },
  );
});
