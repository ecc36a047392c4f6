/** Entry point of a guard's process, see save-guard.ts and vm-guard.ts. Arguments: the path of the record. */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { rescue } from './rescue-vm.js';
import { HeldRecord } from './save-record.js';
import { VM_RECORD_SUFFIX, VmRecord } from './vm-record.js';

const [recordPath = ''] = process.argv.slice(2);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.stdin.resume();
process.stdin.on('error', () => {});
process.stdin.on('close', () => void act());

async function act(): Promise<void> {
  try {
    if (recordPath.endsWith(VM_RECORD_SUFFIX)) {
      await (await taken(() => VmRecord.takeAbandoned(recordPath)))?.putRight();
    } else {
      const held = await taken(() => HeldRecord.takeAbandoned(recordPath));
      if (held !== undefined) await rescue(held, { patient: true });
    }
    process.exit(0);
  } catch {
    // The record stays: `mapram doctor` reports it.
    process.exit(1);
  }
}

/** Somebody else may just be looking at the record. Undefined where it has gone. */
async function taken<T>(take: () => T | undefined): Promise<T | undefined> {
  for (;;) {
    const held = take();
    if (held !== undefined || !existsSync(recordPath)) return held;
    await delay(100);
  }
}
