/**
 * Loads a mapped-ram file into a QEMU whose RAM is shared memory: mapram's channels read the pages straight into it, past the page
 * cache and past QEMU, which then gets the device state as a stream without pages.
 *
 *     channels          slots of the image -> the files behind QEMU's RAM blocks
 *     migrate-incoming  RAM block list without pages, pages of the other blocks (ROMs, video), device state
 */
import { constants } from 'node:fs';
import { channelBlock } from '../../channels/channel-block.js';
import { FileChannels } from '../../channels/file/file-channels.js';
import { transferWithProgress } from '../../channels/file/transfer-with-progress.js';
import { lendFdset } from '../../guest/qemu/lent-fdset.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { SharedRam, SharedRamBlock } from '../../guest/qemu/shared-ram.js';
import { releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { createMemfd } from '../../io/memory/memfd.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { ProgressEvent } from '../../progress.js';
import type { CheckedFile } from '../files/checked-file.js';
import { writeStateStream } from '../resume/state-stream.js';

export interface SharedLoadOptions {
  image: MappedRamImage;
  checked: CheckedFile;
  direct: boolean;
  channels: number;
  signal: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
}

/**
 * @param ram of the VM, open for writing
 * @throws MapramError; QEMU has seen nothing as long as pages are read
 */
export async function loadIntoSharedRam(
  vm: QemuVm,
  ram: SharedRam,
  options: SharedLoadOptions,
): Promise<void> {
  const { image, checked, signal } = options;
  const filled = new Map<ImageBlock, SharedRamBlock>();
  for (const block of image.blocks) {
    const memory = ram.opened.find(
      ({ idstr, usedLength }) => idstr === block.idstr && usedLength === block.usedLength,
    );
    if (memory) filled.set(block, memory);
  }
  await readPages(filled, options);
  const memfd = createMemfd('mapram device state', 0);
  try {
    await writeStateStream(image, checked.fd, memfd, (block) => (filled.has(block) ? 'filled' : 'fresh'));
    signal.throwIfAborted();
    checked.assertUnchanged('loading');
    await loadState(vm, memfd, signal);
  } finally {
    releaseFiles([memfd]);
  }
}

async function readPages(
  filled: ReadonlyMap<ImageBlock, SharedRamBlock>,
  { checked, direct, channels: count, signal, onProgress }: SharedLoadOptions,
): Promise<void> {
  using file = checked.open(direct);
  await using channels = await FileChannels.open({
    path: checked.path,
    fds: new Array<number>(count).fill(file.fd),
    access: 'read',
    count,
    direct,
    blocks: [...filled].map(([block, { fd, offset }]) => channelBlock(block, { memory: { fd, offset } })),
    signal,
  });
  const totalBytes = [...filled.keys()].reduce(
    (total, { bitmap, pageSize }) => total + bitmap.count() * pageSize,
    0,
  );
  await transferWithProgress(channels, { phase: 'RAM', totalBytes, onProgress });
}

/** QEMU reads a plain stream from a file since 8.2; before, from any descriptor that it was given by name. */
async function loadState(vm: QemuVm, memfd: number, signal: AbortSignal): Promise<void> {
  const settings = await MigrationSettings.apply(vm, ['events'], { 'tls-creds': '' });
  const stream = reopenFile(memfd, constants.O_RDONLY);
  try {
    if (vm.has('streamFromFile')) {
      await using lent = await lendFdset(vm, [stream]);
      await incoming(vm, `file:${lent.path}`, signal);
    } else {
      await vm.client.execute('getfd', { fdname: FD_NAME }, { descriptors: [stream] });
      await incoming(vm, `fd:${FD_NAME}`, signal);
    }
  } finally {
    releaseFiles([stream]);
  }
  await settings.restore();
}

const FD_NAME = 'mapram-device-state';

async function incoming(vm: QemuVm, uri: string, signal: AbortSignal): Promise<void> {
  await vm.migrateIncoming(uri);
  await vm.waitForMigration(['completed'], { signal, announced: true });
}
