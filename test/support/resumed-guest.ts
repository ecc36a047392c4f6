/** What tests do with VMs that the code under test has started from a file. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import type { TestVm } from './qemu.js';
import { QmpSession } from './qmp-session.js';
import { SerialConsole } from './serial-console.js';

/** The command line of a test VM, with its sockets in another folder. */
export function commandIn(vm: TestVm, folder: string): string[] {
  return vm.commandLine.map((word) => word.replaceAll(vm.folder, folder));
}

/** The serial port of a VM whose sockets are in `folder`. */
export async function consoleIn(folder: string): Promise<SerialConsole> {
  return await SerialConsole.open(path.join(folder, 'serial.sock'));
}

/** All that the guest can see of its main memory, over a QMP socket that nobody else uses, against what the file says. */
export async function assertMemoryIsThatOf(
  file: string,
  qmp: string,
  options: { offset?: number } = {},
): Promise<void> {
  const dump = (length: number) => dumpMemory(qmp, `${file}.memory`, length);
  await assertFileHolds(file, dump, options);
}

/** @param dump gives the memory from address 0 on */
export async function assertFileHolds(
  file: string,
  dump: (length: number) => Promise<Buffer>,
  options: { offset?: number } = {},
): Promise<void> {
  await using image = await MappedRamImage.open(file, options);
  const block = image.block('pc.ram');
  assert.ok(block, 'there is no block');
  const memory = await dump(block.usedLength);
  // From 0xa0000 to 1 MiB the guest sees video memory and firmware instead.
  for (let first = 256; first < block.pageCount; first += 256) {
    const expected = await image.readPages(block, first, Math.min(256, block.pageCount - first));
    const found = memory.subarray(first * 4096, first * 4096 + expected.byteLength);
    assert.ok(found.equals(expected), `memory differs in pages ${first} to ${first + 256}`);
  }
}

async function dumpMemory(qmp: string, file: string, length: number): Promise<Buffer> {
  const session = await QmpSession.open(qmp);
  try {
    await session.execute('pmemsave', { val: 0, size: length, filename: file });
    return readFileSync(file);
  } finally {
    session.close();
    rmSync(file, { force: true });
  }
}

/** Processes with `text` in their command line. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** For the end of a test that may have failed half-way: nothing runs on that has `text` in its command line. */
export function killProcessesWith(text: string): void {
  for (const pid of processesWith(text)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}
