import { accessSync, closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { mountOf } from '../../doctor/mounts.js';
import { errorReason, MapramError } from '../../errors.js';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import { probeDirectIo } from '../../io/file/direct-io-probe.js';
import { cachedBytes } from '../../io/file/page-cache.js';
import { formatSize } from '../../size.js';
import { type Inspection, inspect } from '../../snapshot/inspect/inspect.js';
import { restore } from '../../snapshot/restore/restore.js';
import { save } from '../../snapshot/save/save.js';
import { deviceValues } from '../../stream/device-values.js';
import { directIoOption } from '../arguments.js';
import type { CommandContext, CommandOf } from '../command.js';
import { formatDuration, plural } from '../format.js';

const MEMORY = 256 * 2 ** 20;
const DIRTY_RATE = 32 * 2 ** 20;
/** How long a guest is watched to see that it runs. */
const WATCHED_TICKS = 25;
const WATCH_TIMEOUT_MS = 15_000;

export const demo: CommandOf<'demo'> = {
  name: 'demo',
  summary: 'the whole round on a small builtin VM: save while it runs, inspect, load, run on',
  declare(command) {
    command
      .argument('[directory]', 'where to put the file; a temporary directory on a disk by default')
      .addOption(directIoOption())
      .addHelpText(
        'after',
        `
Needs no QEMU, 300 MiB of disk and 600 MiB of memory for a few seconds, and leaves nothing behind.

Examples:
  mapram demo
  mapram demo /var/tmp --direct-io on`,
      );
  },
  async run([directory], { directIo }, context) {
    const started = performance.now();
    using place = temporaryDirectory(directory === undefined ? undefined : String(directory));
    const file = path.join(place.path, 'demo.mapram');
    context.print(`A VM of ${formatSize(MEMORY)} in this process, saved to ${file}\n`);

    await using guest = await BuiltinGuest.start({ size: MEMORY, dirtyRate: DIRTY_RATE });
    await untilTick(guest, WATCHED_TICKS, context);
    step(
      context,
      'run',
      `the VM counts ${plural(guest.ticks, 'tick')} and rewrites ${formatSize(DIRTY_RATE)}/s of its memory`,
    );

    const saved = await save({
      vm: guest,
      file,
      directIo,
      live: true,
      signal: context.signal,
      onProgress: context.progress,
      onWarning: context.warn,
    });
    const cachedShare = cachedPart(file) / saved.allocatedBytes;
    const rate = formatSize(Math.round((saved.normalBytes / saved.totalTimeMs) * 1000));
    step(
      context,
      'save',
      `${formatSize(saved.normalBytes)} in ${formatDuration(saved.totalTimeMs)} (${rate}/s, on disk), ${plural(saved.channels, 'channel')}`,
    );
    step(
      context,
      '',
      `direct I/O ${saved.directIo ? 'on' : 'off'}: ${saved.directIoReason}; ${percent(cachedShare)} of the file in the page cache`,
    );
    step(context, '', `the VM was paused for ${formatDuration(saved.downtimeMs)}`);

    const inspection = await inspect({ file, signal: context.signal, onProgress: context.progress });
    const savedTick = tickInFile(inspection);
    step(
      context,
      'inspect',
      `${plural(inspection.blocks.length, 'RAM block')}, ${inspection.normalPages} pages, ${plural(inspection.devices.length, 'device')}, complete; the counter in it is ${savedTick}`,
    );

    await untilTick(guest, savedTick + WATCHED_TICKS, context);
    step(context, 'run on', `the VM that was saved has counted on to ${guest.ticks}`);
    await guest[Symbol.asyncDispose]();

    await using copy = await BuiltinGuest.start({ size: MEMORY, dirtyRate: DIRTY_RATE, begin: 'incoming' });
    const loaded = await restore({
      file,
      vm: copy,
      directIo,
      signal: context.signal,
      onProgress: context.progress,
      // The same directory was warned about when saving.
      onWarning: () => {},
    });
    if (copy.runState === 'running') await copy.stop();
    const loadedTick = copy.ticks;
    const { ok, actual, expected } = await copy.checkMemory();
    step(
      context,
      'load',
      `into a new VM in ${formatDuration(loaded.totalTimeMs)}; its counter is ${loadedTick}`,
    );
    step(
      context,
      'check',
      `memory checksum ${hex(actual)}, ${ok ? 'as the VM kept it' : `NOT ${hex(expected)}`}`,
    );
    if (!ok || loadedTick < savedTick) {
      throw new MapramError('VM', `demo: the loaded VM differs from the saved one; please report this`, {
        path: file,
      });
    }
    await copy.cont();
    await untilTick(copy, loadedTick + WATCHED_TICKS, context);
    step(context, 'run on', `the loaded VM counts on from ${loadedTick} to ${copy.ticks}`);

    const totalTimeMs = Math.round(performance.now() - started);
    return {
      fields: {
        directory: place.path,
        save: saved,
        cachedShare,
        inspect: {
          blocks: inspection.blocks,
          normalPages: inspection.normalPages,
          complete: inspection.complete,
        },
        restore: loaded,
        ticks: { saved: savedTick, loaded: loadedTick, afterwards: copy.ticks },
        memoryChecksum: hex(actual),
        totalTimeMs,
      },
      text: `\nAll good in ${formatDuration(totalTimeMs)}. The file is removed again.`,
    };
  },
};

function step(context: CommandContext, name: string, text: string): void {
  context.print(`${name.padEnd(8)} ${text}`);
}

/** The guest's counter as the device state of the file has it. */
function tickInFile({ devices }: Inspection): number {
  const timer = devices.find(({ idstr }) => idstr === 'timer')?.state;
  const clock = timer === undefined ? undefined : deviceValues(timer).clock_ns;
  if (typeof clock !== 'bigint') throw new MapramError('FORMAT', 'demo: the saved file describes no timer');
  return Number(clock / 10_000_000n);
}

async function untilTick(guest: BuiltinGuest, tick: number, { signal }: CommandContext): Promise<void> {
  const deadline = performance.now() + WATCH_TIMEOUT_MS;
  while (guest.ticks < tick) {
    signal.throwIfAborted();
    if (performance.now() > deadline) {
      throw new MapramError(
        'VM',
        `demo: the VM stands still at tick ${guest.ticks} in state ${guest.runState}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Bytes of the file that are in the page cache. */
function cachedPart(file: string): number {
  const fd = openSync(file, 'r');
  try {
    return cachedBytes(fd);
  } finally {
    closeSync(fd);
  }
}

/** A new directory below `parent`, or below the first usual place that is on a disk with direct I/O. */
function temporaryDirectory(parent?: string): Disposable & { path: string } {
  const chosen = parent ?? usualPlaces().find(isGoodPlace) ?? os.tmpdir();
  try {
    const created = mkdtempSync(path.join(chosen, 'mapram-demo-'));
    return { path: created, [Symbol.dispose]: () => rmSync(created, { recursive: true, force: true }) };
  } catch (error) {
    throw new MapramError('IO', `demo: creating a directory in ${chosen}: ${errorReason(error)}`, {
      path: chosen,
      cause: error,
    });
  }
}

function usualPlaces(): string[] {
  return [os.tmpdir(), '/var/tmp', process.cwd(), os.homedir()];
}

function isGoodPlace(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return mountOf(directory)?.type !== 'tmpfs' && probeDirectIo(directory).supported;
  } catch {
    return false;
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function hex(checksum: number): string {
  return `0x${checksum.toString(16).padStart(8, '0')}`;
}
