import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fileOffset } from '../branded.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { type ByteSource, FileSource, MemorySource } from '../mapped-ram/byte-source.js';
import { type Container, findContainer } from '../mapped-ram/container.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import type { OperationOptions } from '../progress.js';
import { libvirtMark } from '../stream/libvirt-header.js';
import { StreamParser } from '../stream/stream-parser.js';
import { compressionOf, type DecompressedCopy, decompress } from './decompress.js';
import type { SavedVm } from './saved-vm.js';
import { StreamImage } from './stream-image.js';

export interface OpenOptions extends OperationOptions {
  /** Where the stream starts, for files saved with `offset=`. */
  readonly offset?: number | undefined;
}

/**
 * Opens a saved VM of any form: a mapped-ram file or a plain stream, bare or in a libvirt image, compressed or not.
 * Plain streams are read once from start to end.
 *
 * @throws MapramError `FORMAT` saying what the file is instead or that nothing of it can be read, `UNSUPPORTED` for a
 *   compression that is not to be had here, `IO`, `CANCELLED`
 */
export async function openSavedVm(file: string, options: OpenOptions = {}): Promise<SavedVm> {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: Error) => {
    throw new MapramError('IO', `opening ${file}: ${errorReason(cause)}`, { path: file, cause });
  });
  try {
    return await openSource(await FileSource.of(handle, file), options, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Like `openSavedVm`, of any bytes. `owner` is disposed of with the result. */
export async function openSource(
  source: ByteSource,
  options: OpenOptions = {},
  owner?: AsyncDisposable,
): Promise<SavedVm> {
  const { offset } = options;
  const compression = offset === undefined ? compressionOf(await source.read(fileOffset(0), 16)) : undefined;
  if (compression !== undefined) {
    const checkHead = (head: Uint8Array) => assertSavedVm(source.name, head, compression);
    const copy = await decompress(source, 0, compression, { ...options, checkHead });
    const container = await disposing(copy, () => findInside(copy.source, compression));
    return opened(copy, container, options, owner);
  }
  const container = await findContainer(source, offset);
  if (container.compression !== undefined) {
    const copy = await decompress(source, container.offset, container.compression, options);
    return opened(copy, { ...container, offset: fileOffset(0) }, options, owner);
  }
  return openStream(source, container, options, owner);
}

/** Refuses what does not begin like a saved VM, before the rest of it is decompressed. */
async function assertSavedVm(name: string, head: Uint8Array, compression: string): Promise<void> {
  // Of an image of libvirt there may be more before the stream than the head has.
  if (libvirtMark(head) === undefined) await findInside(new MemorySource(head, name), compression);
}

async function findInside(source: ByteSource, compression: string): Promise<Container> {
  try {
    return await findContainer(source);
  } catch (cause) {
    if (!(cause instanceof MapramError) || cause.code !== 'FORMAT') throw cause;
    throw new MapramError(
      'FORMAT',
      `opening ${source.name}: it is a ${compression} file with no migration stream in it; give a file saved by QEMU or mapram`,
      { path: source.name, cause },
    );
  }
}

async function opened(
  copy: DecompressedCopy,
  container: Container,
  options: OpenOptions,
  owner: AsyncDisposable | undefined,
): Promise<SavedVm> {
  const both: AsyncDisposable = {
    async [Symbol.asyncDispose]() {
      await copy[Symbol.asyncDispose]();
      await owner?.[Symbol.asyncDispose]();
    },
  };
  return disposing(copy, () => openStream(copy.source, container, options, both, copy.problem));
}

async function openStream(
  source: ByteSource,
  container: Container,
  options: OpenOptions,
  owner: AsyncDisposable | undefined,
  problem?: string,
): Promise<SavedVm> {
  const problems = problem === undefined ? [] : [problem];
  const settings = { problems, ...defined({ owner }) };
  return (await usesMappedRam(source, container))
    ? MappedRamImage.open(source, { container, ...settings })
    : StreamImage.open(source, container, { ...options, ...settings });
}

/** Whether the stream's configuration, which comes first, lists mapped-ram. */
async function usesMappedRam(source: ByteSource, { offset }: Container): Promise<boolean> {
  const parser = new StreamParser({ name: source.name, origin: offset });
  try {
    parser.push(await source.read(offset, 4096));
  } catch (error) {
    // Whatever is wrong behind the configuration is for the real reader to tell.
    if (!(error instanceof MapramError)) throw error;
  }
  return parser.configuration?.capabilities.includes('mapped-ram') === true;
}

/** What `action` gives; `resource` is disposed of when it fails. */
async function disposing<T>(resource: AsyncDisposable, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    await resource[Symbol.asyncDispose]();
    throw error;
  }
}
