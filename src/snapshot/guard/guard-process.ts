/** Entry point of the guard's process, see save-guard.ts. Arguments: the path of the record. */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { rescue } from './rescue-vm.js';
import { HeldRecord } from './save-record.js';

const [recordPath = ''] = process.argv.slice(2);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.stdin.resume();
process.stdin.on('error', () => {});
process.stdin.on('close', () => void act());

async function act(): Promise<void> {
  let held = HeldRecord.takeAbandoned(recordPath);
  // Somebody else may just be looking at it.
  for (; held === undefined && existsSync(recordPath); held = HeldRecord.takeAbandoned(recordPath))
    await delay(100);
  if (held === undefined) process.exit(0);
  try {
    await rescue(held, { patient: true });
    process.exit(0);
  } catch {
    // The record stays: `mapram doctor` reports it.
    process.exit(1);
  }
}
