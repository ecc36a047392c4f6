import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MapramError, type MapramErrorCode } from '../../../src/errors.js';
import { parseCommandLine } from '../../../src/launch/command-line.js';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { MacChanger } from '../../../src/snapshot/resume/new-macs.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { writeBuiltinImage } from '../builtin-image.js';

describe('MacChanger', () => {
  let folder: string;
  let image: MappedRamImage;
  before(async () => {
    folder = temporaryFolder('macs');
    await writeBuiltinImage(path.join(folder, 'image'));
    image = await MappedRamImage.open(path.join(folder, 'image'));
  });
  after(async () => {
    await image.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const refusals: [string[], MapramErrorCode, RegExp][] = [
    [['-device', 'e1000e,netdev=n'], 'UNSUPPORTED', /the network card e1000e keeps its address in registers/],
    [['-nic', 'tap'], 'UNSUPPORTED', /the network card of the machine type keeps/],
    [['-device', 'virtio-net-pci'], 'VM', /the file has 0 virtio-net cards, the command line 1/],
  ];
  for (const [words, code, pattern] of refusals) {
    test(`refuses ${words.join(' ')} for a VM without cards`, () => {
      assert.throws(
        () => MacChanger.create(image, parseCommandLine(words)),
        (error) => error instanceof MapramError && error.code === code && pattern.test(error.message),
      );
    });
  }

  test('has nothing to change where there is no card', () => {
    const options = parseCommandLine(['-m', '1G']);
    const changer = MacChanger.create(image, options);
    assert.deepEqual(changer.next(options), { macs: [], options, patches: [] });
  });
});
