/** Whether the disks of a command line are what a snapshot needs, asked before a QEMU opens them. */
import path from 'node:path';
import { MapramError } from '../../errors.js';
import { isOpenForWriting, processWithOpen } from '../../io/file/image-lock.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { diskArguments } from '../../launch/disks.js';
import type { LaunchDisk, LaunchRecord } from '../../launch/launch-record.js';
import { type MemoryFile, memoryFiles } from '../../launch/memory-files.js';
import { changedDisks } from '../resume/recorded-launch.js';
import type { ResumeSource } from '../resume/resume-source.js';
import { blockOf, replacedContents } from './memory-file-contents.js';

export interface DiskCheck {
  /** The command line that is to be run. */
  options: readonly CommandLineOption[];
  workingDirectory: string;
  /** Of the saved VM, where the file tells. */
  recorded: LaunchRecord | undefined;
  /** Whether `options` are what was recorded; else only those disks matter that it still names. */
  own: boolean;
  /** Whether QEMU gets copies of its own, so that nothing is overwritten. */
  copies: boolean;
  allowChangedDisks: boolean;
}

/**
 * @returns warnings
 * @throws MapramError `VM` where a disk has changed and that is not allowed, `BUSY` where another VM writes to one
 */
export async function checkDisks(source: ResumeSource, check: DiskCheck): Promise<string[]> {
  const { file, image } = source;
  const { options, workingDirectory, copies, allowChangedDisks } = check;
  const inMemory = memoryFiles(options).map((found) => ({
    ...found,
    path: path.resolve(workingDirectory, found.path),
  }));
  assertFree(file, options, workingDirectory);
  // What the snapshot holds itself has been written when the guest went on, the same bytes among others: its time says nothing.
  const others = comparable(check).filter(({ path: name }) => !isInSnapshot(source, inMemory, name));
  const changed = changedDisks(others);
  const replaced = copies ? [] : await replacedContents(image, inMemory);
  const problems = [
    ...(changed.length === 0
      ? []
      : [
          `disks have changed since the VM was saved, its file systems will not match its memory: ${changed.join('; ')}`,
        ]),
    ...replaced,
  ];
  if (problems.length === 0 || allowChangedDisks) return problems;
  throw new MapramError(
    'VM',
    `resuming ${file}: ${problems.join('; ')}; use --allow-changed-disks to resume all the same`,
    { path: file },
  );
}

function comparable({ recorded, own, options }: DiskCheck): readonly LaunchDisk[] {
  if (recorded === undefined || !own) return recorded?.disks ?? [];
  return recorded.disks.filter(({ path: name }) => options.some(({ value }) => value?.includes(name)));
}

function isInSnapshot({ image }: ResumeSource, inMemory: readonly MemoryFile[], name: string): boolean {
  return inMemory.some((found) => found.path === name && blockOf(image, found) !== undefined);
}

/** The saved VM may still run: QEMU would find out only when all is loaded, and leave the guest stopped. */
function assertFree(file: string, options: readonly CommandLineOption[], workingDirectory: string): void {
  if (options.some(({ name }) => name === 'snapshot')) return;
  for (const { path: name, readOnly } of diskArguments(options)) {
    const disk = path.resolve(workingDirectory, name);
    if (readOnly || !isOpenForWriting(disk)) continue;
    const pid = processWithOpen(disk);
    throw new MapramError(
      'BUSY',
      `resuming ${file}: the disk ${disk} is being written to by another VM${pid === undefined ? '' : ` (process ${pid})`}, perhaps the one that was saved; end that first (save --then quit does), or give the command line after -- with another disk`,
      { path: disk },
    );
  }
}
