import { constants } from 'node:fs';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { closeFile, releaseFiles, reopenFile } from '../io/file/open-file.js';
import { systemErrorText } from '../io/system-error-text.js';
import { MigrationFile } from '../migration/migration-file.js';
import { type Seal, sealing } from '../migration/sealed-save.js';
import { effectiveDirectIo } from '../options/direct-io.js';
import type { FileAddress } from '../options/migration-address.js';
import type { FileMigrationRequest, MigrationRequest } from './backend.js';
import { CommandError } from './command-error.js';

/** The open file of a migration, together with what was duplicated for it. */
export interface OpenTarget extends Disposable {
  readonly file: MigrationFile;
}

/** @throws CommandError where mapram's engine cannot take the migration */
export function requireMappedFile(request: MigrationRequest): asserts request is FileMigrationRequest {
  if (request.address.transport === 'file' && request.capabilities['mapped-ram']) return;
  throw new CommandError(
    'mapram writes and reads mapped-ram files only here: use file:PATH, and switch the capability mapped-ram on',
  );
}

/**
 * Opens the file of a save as QEMU does; `/dev/fdset/N` picks a descriptor for the main channel and one for the others.
 *
 * @throws CommandError or MapramError with the text for the client
 */
export function openOutgoing(request: FileMigrationRequest): OpenTarget {
  return open(request, constants.O_WRONLY | constants.O_CREAT, constants.O_WRONLY, MigrationFile.create);
}

/** The same for a load. */
export function openIncoming(request: FileMigrationRequest): OpenTarget {
  return open(request, constants.O_RDONLY, constants.O_RDONLY, MigrationFile.open);
}

function open(
  request: FileMigrationRequest,
  mainFlags: number,
  channelFlags: number,
  openPath: typeof MigrationFile.create,
): OpenTarget {
  const { address, descriptors, parameters, capabilities } = request;
  const { filename, offset } = address;
  const mainFd = descriptors.open(filename, mainFlags);
  if (mainFd === undefined) {
    const file = openNamed(
      () => openPath(filename, offset, { parameters, capabilities }),
      mainFlags,
      address,
    );
    return { file, [Symbol.dispose]: () => file[Symbol.dispose]() };
  }
  const direct = effectiveDirectIo(parameters, capabilities);
  let channelFd: number | undefined;
  try {
    channelFd = descriptors.open(filename, channelFlags | (direct ? O_DIRECT : 0)) as number;
  } catch (error) {
    closeFile(mainFd);
    throw error;
  }
  const fds = [mainFd, channelFd];
  return {
    file: MigrationFile.fromDescriptors(filename, mainFd, channelFd, direct, offset),
    [Symbol.dispose]: () => releaseFiles(fds),
  };
}

/** QEMU words failures of the system by the C library's texts for them. */
function openNamed(
  openFile: () => MigrationFile,
  flags: number,
  { filename, offset }: FileAddress,
): MigrationFile {
  try {
    return openFile();
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === 'ftruncate') throw cannotTruncate(error as NodeJS.ErrnoException, offset);
    const text = systemErrorText((error as Error).cause);
    if (code !== 'IO' || text === undefined) throw error;
    const verb = (flags & constants.O_CREAT) === 0 ? 'open' : 'create';
    throw new CommandError(`Could not ${verb} '${filename}': ${text}`);
  }
}

/** Cuts the file of a stream; a failure is told as that of any other file. */
export function truncating({ offset }: FileAddress, truncate: () => void): void {
  try {
    truncate();
  } catch (error) {
    throw cannotTruncate(error as NodeJS.ErrnoException, offset);
  }
}

function cannotTruncate(error: NodeJS.ErrnoException, offset: number): CommandError {
  const text = systemErrorText(error) ?? error.code;
  return new CommandError(`failed to truncate migration file to offset ${offset}: ${text}`);
}

/** As `sealing`; a file that cannot be opened for reading (a write-only descriptor to what is not ours) gets no manifest. */
export function sealingOf(file: MigrationFile, seal: Seal): Partial<ReturnType<typeof sealing>> {
  try {
    closeFile(reopenFile(file.mainFd, constants.O_RDONLY));
  } catch {
    return {};
  }
  return sealing(file, seal);
}
