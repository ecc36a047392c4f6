/** What an operation that fails must leave as it was. */
import { readFileSync, statSync } from 'node:fs';
import type { TestVm } from '../support/qemu.js';

/** Tells one file from another that has its name. */
export function identity(file: string): string {
  const { ino, mtimeMs, size } = statSync(file);
  return `${ino} ${mtimeMs} ${size} ${readFileSync(file).subarray(-200).toString('latin1')}`;
}

/** Migration settings of a VM. */
export async function settingsOf(vm: TestVm): Promise<unknown> {
  return {
    parameters: await vm.qmp.execute('query-migrate-parameters'),
    capabilities: await vm.qmp.execute('query-migrate-capabilities'),
  };
}
