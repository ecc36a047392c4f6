/** Saves of QEMUs that send what they should not: one clear error, no file, and the guest goes on. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import {
  initialPacket,
  mainChannel,
  packet,
  pageOf,
  pageSize,
  syncPacket,
} from '../migration/made-stream.js';
import { FakeQemu, type FakeQemuOptions } from '../support/fake-qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let folder: string;
before(() => {
  folder = temporaryFolder('save');
});

const main = mainChannel();
const blockName = 'made.ram';
const wholeStream = Buffer.concat([
  main.opening,
  main.part((to) => to.page(blockName, 0, pageOf(0, 1)).zeroPage(blockName, pageSize)),
  main.closing,
]);

async function saveFrom(migrate: FakeQemuOptions['migrate'], options: Partial<SaveOptions> = {}) {
  await using qemu = await FakeQemu.start({ migrate });
  const file = path.join(folder, 'image');
  const saving = save({ vm: qemu.qmpPath, file, method: 'stream', multifd: false, ...options });
  const outcome = await saving.then(
    () => undefined,
    (error: unknown) => error,
  );
  return { qemu, file, error: outcome };
}

test('a sound stream of a made-up QEMU becomes a file, and its guest goes on', async () => {
  const { qemu, file, error } = await saveFrom(async (socketPath, fake) => {
    await fake.send(socketPath, wholeStream);
    fake.migrationStatus = 'completed';
    fake.runState = 'postmigrate';
  });
  assert.equal(error, undefined);
  assert.equal(qemu.runState, 'running');
  await using image = await MappedRamImage.open(file);
  assert.ok(image.complete, 'the image is not complete');
  assert.equal(image.configuration.machine, 'made-9.0');
  assert.equal(image.block(blockName)?.bitmap.count(), 1);
  rmSync(file);
});

describe('a save of a QEMU that lies fails, leaves no file, and the guest goes on:', () => {
  const lies: [string, FakeQemuOptions['migrate'], RegExp, Partial<SaveOptions>?][] = [
    [
      'something else than a stream',
      (socketPath, fake) => fake.send(socketPath, Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
      /magic QEVM is missing at offset 0/,
    ],
    [
      'an end in the middle',
      (socketPath, fake) => fake.send(socketPath, wholeStream.subarray(0, 3000)),
      /it ends inside the PART section of ram at offset 3000/,
    ],
    [
      'junk behind the end',
      async (socketPath, fake) => {
        await fake.send(socketPath, Buffer.concat([wholeStream, Buffer.from('junk')]));
        fake.migrationStatus = 'completed';
      },
      /4 bytes follow the end of the stream/,
    ],
    [
      'no end of its device state',
      async (socketPath, fake) => {
        await fake.send(socketPath, wholeStream.subarray(0, wholeStream.length - 60));
        fake.migrationStatus = 'completed';
      },
      /without EOF/,
    ],
    [
      'a page outside its block on a channel',
      async (socketPath, fake) => {
        const [stream, channel] = [await fake.connect(socketPath), await fake.connect(socketPath)];
        stream.write(main.opening);
        channel.write(initialPacket(0));
        channel.write(syncPacket());
        channel.write(packet([{ page: 64, contents: pageOf(64, 1) }]));
      },
      /channel 0 of the stream of the VM at .*: a page at 262144 is outside RAM block made.ram .*at offset 1408/,
      { multifd: true, channels: 1 },
    ],
    [
      'another process on its socket',
      async (socketPath, fake) => {
        // This process is no QEMU: whoever connects first is taken for it.
        await fake.connect(socketPath);
        execFile(process.execPath, [
          '-e',
          `require('node:net').connect(${JSON.stringify(socketPath)}).on('error', () => {})`,
        ]);
      },
      /process \d+ connected to .*, which belongs to the QEMU with process id \d+/,
      { multifd: true, channels: 1 },
    ],
    [
      'a failed migration',
      async (socketPath, fake) => {
        await fake.send(socketPath, wholeStream);
        fake.migrationStatus = 'failed';
      },
      /it ended as failed/,
    ],
  ];
  for (const [what, migrate, message, options] of lies) {
    test(what, async () => {
      const { qemu, error } = await saveFrom(migrate, options);
      assert.ok(error instanceof MapramError, String(error));
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      assert.deepEqual(readdirSync(folder), []);
      assert.equal(qemu.runState, 'running');
    });
  }

  test('the end of QEMU itself', async () => {
    const { error } = await saveFrom(async (socketPath, fake) => {
      const stream = await fake.connect(socketPath);
      stream.write(wholeStream.subarray(0, 3000), () => fake.die());
    });
    assert.ok(error instanceof MapramError, String(error));
    assert.match(error.message, /QEMU has ended|connection to the monitor .* was lost/);
    assert.deepEqual(readdirSync(folder), []);
  });
});
