/**
 * Loads a mapped-ram file into a QEMU whose RAM is shared memory: mapram's channels read the pages straight into it, past the page
 * cache and past QEMU, which then gets the device state as a stream without pages.
 *
 *     channels          slots of the image -> the files behind QEMU's RAM blocks
 *     migrate-incoming  RAM block list without pages, pages of the other blocks (ROMs, video), device state
 */
import { constants } from 'node:fs';
import { lendFdset } from '../guest/qemu/lent-fdset.js';
import { MigrationSettings } from '../guest/qemu/migration-settings.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import type { SharedRam, SharedRamBlock } from '../guest/qemu/shared-ram.js';
import { createMemfd } from '../io/memfd.js';
import { releaseFiles, reopenFile } from '../io/open-file.js';
import type { ImageBlock, MappedRamImage } from '../mapped-ram/image.js';
import type { ChannelRegion } from '../multifd/channel-region.js';
import { FileChannels } from '../multifd/file-channels.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import type { CheckedFile } from './checked-file.js';
import { writeStateStream } from './state-stream.js';

export interface SharedLoadOptions {
  image: MappedRamImage;
  checked: CheckedFile;
  direct: boolean;
  channels: number;
  signal: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
}

const PROGRESS_MS = 200;

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
    regions: [...filled].map(([block, memory]) => regionOf(block, memory)),
    signal,
  });
  const meter = new ProgressMeter();
  const pages = [...filled.keys()].reduce((total, { bitmap }) => total + bitmap.count(), 0);
  const totalBytes = pages * ([...filled.keys()][0]?.pageSize ?? 0);
  const report = () => {
    const shares = channels.progress();
    onProgress?.(
      meter.report('RAM', {
        bytes: shares.reduce((total, { bytes }) => total + bytes, 0),
        totalBytes,
        pages: shares.reduce((total, { normalPages }) => total + normalPages, 0),
        channels: shares.map(({ channel, bytes }) => ({ id: channel, bytes })),
      }),
    );
  };
  const ticker = setInterval(report, PROGRESS_MS);
  try {
    await channels.transfer();
  } finally {
    clearInterval(ticker);
  }
  report();
}

function regionOf(
  { idstr, usedLength, pageSize, pagesOffset, bitmap }: ImageBlock,
  { fd, offset }: SharedRamBlock,
): ChannelRegion {
  const bits = new SharedArrayBuffer(bitmap.bytes.byteLength);
  new Uint8Array(bits).set(bitmap.bytes);
  return { name: idstr, fd, fdOffset: offset, length: usedLength, pagesOffset, pageSize, bitmap: bits };
}

/** QEMU reads a plain stream from a file since 8.2; before, from any descriptor that it was given by name. */
async function loadState(vm: QemuVm, memfd: number, signal: AbortSignal): Promise<void> {
  const settings = await MigrationSettings.apply(vm, ['events'], { 'tls-creds': '' });
  const stream = reopenFile(memfd, constants.O_RDONLY);
  try {
    if (vm.isAtLeast(8, 2)) {
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
  await vm.client.execute('migrate-incoming', {
    uri,
    // Otherwise a failed load ends the process, and with it the reason.
    ...(vm.isAtLeast(9, 1) ? { 'exit-on-error': false } : {}),
  });
  await vm.waitForMigration(['completed'], { signal, announced: true });
}
