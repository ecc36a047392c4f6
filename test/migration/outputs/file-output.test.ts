import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { releaseFiles } from '../../../src/io/file/open-file.js';
import { createMemfd } from '../../../src/io/memory/memfd.js';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { MigrationFile } from '../../../src/migration/migration-file.js';
import { OutgoingMigration } from '../../../src/migration/outgoing.js';
import type { OutgoingSource } from '../../../src/migration/sources/migration-source.js';
import { defaultCapabilities } from '../../../src/options/migration-capabilities.js';
import { defaultParameters } from '../../../src/options/migration-parameters.js';
import { qemuProfile } from '../../../src/options/qemu-profile.js';
import { StreamWriter } from '../../../src/stream/stream-writer.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

test('sections of devices that come before RAM stay where they were', async (t) => {
  const folder = temporaryFolder('test');
  const fd = createMemfd('early', 1 << 20);
  t.after(() => releaseFiles([fd]));
  const section = (sectionId: number, idstr: string, data: string) =>
    new StreamWriter()
      .sectionFull({ sectionId, idstr, instanceId: 0, versionId: 1 }, Buffer.from(data))
      .drainBytes();
  const earlySections = section(7, 'virtio-mem-early', 'which blocks are plugged');
  const source: OutgoingSource = {
    setup: async () => ({
      configuration: { machine: 'made-9.0', capabilities: [] },
      pageSize: 4096,
      ramSectionId: 1,
      earlySections,
      blocks: [{ idstr: 'made.ram', usedLength: 1 << 20, memory: { fd, offset: 0 } }],
    }),
    stop: async () => [0],
    devices: async () => ({ sections: section(8, 'device', 'state'), switchoverStart: true }),
    cancel: async () => {},
    resume: async () => {},
    dispose: async () => {},
  };
  const parameters = defaultParameters(qemuProfile('10.0'));
  const capabilities = { ...defaultCapabilities(), 'mapped-ram': true };
  const path = join(folder, 'file');
  using file = MigrationFile.create(path, 0, { parameters, capabilities });
  await new OutgoingMigration({ source, file, parameters, capabilities, sync: false }).run();
  await using image = await MappedRamImage.open(path);
  assert.deepEqual(image.problems, []);
  assert.deepEqual(Buffer.from(image.earlySectionBytes), Buffer.from(earlySections));
  assert.deepEqual(
    image.earlySections.map(({ idstr }) => idstr),
    ['virtio-mem-early'],
  );
});
