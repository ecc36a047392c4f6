/** What QEMU does by itself: starting, and loading a mapped-ram file with multifd and direct-io. */
import { QemuVm } from '../src/guest/qemu/qemu-vm.js';
import { parseCommandLine } from '../src/launch/command-line.js';
import { QemuProcess } from '../src/launch/qemu-process.js';
import { QmpClient } from '../src/qmp/qmp-client.js';

export interface StockVm extends AsyncDisposable {
  pid: number;
  /** From `migrate-incoming` to `completed`. */
  loadMs?: number;
}

const CHANNELS = 2;

/** A QEMU that answers on its monitor. */
async function start([program = '', ...args]: readonly string[], extra: readonly string[]) {
  const process = QemuProcess.start({
    program,
    options: parseCommandLine([...args, ...extra]),
    terminal: 'detached',
  });
  try {
    const vm = QemuVm.over(await QmpClient.connect(process.monitor, { name: program, timeoutMs: 60_000 }));
    const dispose = async () => {
      await vm[Symbol.asyncDispose]();
      await process.kill();
    };
    return { process, vm, dispose };
  } catch (error) {
    await process.kill();
    throw error;
  }
}

/** Until QEMU has answered its first command, with a stopped, empty VM. */
export async function startStopped(command: readonly string[]): Promise<StockVm> {
  const { process, dispose } = await start(command, ['-S']);
  return { pid: process.pid, [Symbol.asyncDispose]: dispose };
}

/** Until the guest runs again. */
export async function loadNatively(command: readonly string[], file: string): Promise<StockVm> {
  const { process, vm, dispose } = await start(command, ['-incoming', 'defer']);
  try {
    await vm.client.execute('migrate-set-capabilities', {
      capabilities: ['events', 'mapped-ram', 'multifd'].map((capability) => ({ capability, state: true })),
    });
    await vm.client.execute('migrate-set-parameters', { 'direct-io': true, 'multifd-channels': CHANNELS });
    const startedAt = performance.now();
    await vm.client.execute('migrate-incoming', { uri: `file:${file}` });
    await vm.waitForMigration(['completed'], { announced: true });
    const loadMs = performance.now() - startedAt;
    await vm.letRun();
    return { pid: process.pid, loadMs, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
