/** Saved VMs whose recorded command line runs a script that leaves a mark instead of a QEMU. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { formatCommandLine } from '../../src/launch/command-line.js';
import { knownOptions } from '../../src/launch/known-options.js';
import type { LaunchRecord } from '../../src/launch/launch-record.js';
import { readHostId } from '../../src/launch/launch-record.js';
import type { SealOptions } from '../../src/manifest/seal.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { seal } from '../manifest/sample.js';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';

/** A program that is no QEMU: it leaves a mark in its folder, and ends. */
export class MarkingProgram {
  readonly path: string;
  readonly #mark: string;

  constructor(readonly folder: string) {
    mkdirSync(folder, { recursive: true });
    this.path = path.join(folder, 'qemu-system-x86_64');
    this.#mark = path.join(folder, 'ran');
    writeFileSync(this.path, `#!/bin/sh\npwd >> '${this.#mark}'\necho marked >&2\nexit 1\n`, { mode: 0o755 });
  }

  /** Whether it has run since this was asked last. */
  get hasRun(): boolean {
    const ran = existsSync(this.#mark);
    rmSync(this.#mark, { force: true });
    return ran;
  }
}

/** Calls `work` with another user's configuration, or with that of the test run. */
export async function withConfiguration<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const before = process.env.XDG_CONFIG_HOME;
  process.env.XDG_CONFIG_HOME = folder;
  try {
    return await work();
  } finally {
    if (before === undefined) delete process.env.XDG_CONFIG_HOME;
    else process.env.XDG_CONFIG_HOME = before;
  }
}

/** Writes a saved VM that was, it says, started as `program`. It carries the proof of whose configuration is in force. */
export async function writeLaunchFile(
  file: string,
  program: string,
  { launch = {}, ...options }: { launch?: Partial<LaunchRecord> } & Partial<SealOptions> = {},
): Promise<void> {
  await writeBuiltinImage(file);
  const hostId = readHostId();
  await using image = await MappedRamImage.open(file);
  const blocks = image.blocks.map(({ idstr, usedLength, pagesOffset }) => ({
    idstr,
    usedLength,
    pagesOffset,
  }));
  const known = knownOptions({ file, machine: image.configuration.machine, blocks });
  await seal(file, {
    facts: {
      runState: 'running',
      launch: {
        program,
        arguments: formatCommandLine(known),
        omitted: [],
        workingDirectory: path.dirname(program),
        disks: [],
        uid: process.geteuid?.() ?? 0,
        ...(hostId === undefined ? {} : { hostId }),
        ...launch,
      },
    },
    ...options,
  });
}
