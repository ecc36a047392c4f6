import { QemuVm } from '../guest/qemu/qemu-vm.js';
import type { JsonObject, JsonValue } from '../json/json-value.js';
import { type PlainJson, toPlainJson } from '../json/plain-json.js';
import type { Monitor } from '../monitor/monitor.js';
import { QmpClient } from '../qmp/qmp-client.js';

/** A short conversation with a VM's monitor. */
export interface VmConnection extends AsyncDisposable {
  /** Process of the VM, where it can be told. */
  readonly pid: number | undefined;
  /** Of the QEMU, or of the one that the monitor speaks as. */
  readonly version: string;
  execute(command: string, args?: object): Promise<PlainJson>;
}

/** A monitor that is free greets at once; but the main loop of a busy QEMU can be held up for a while. */
const GREETING_MS = 1500;
const ANSWER_MS = 5000;

/**
 * Connects to a QEMU. It serves one client at a time, so hold this only for a moment.
 *
 * @param signal gives up connecting
 * @throws MapramError `BUSY` when somebody else is connected, `MONITOR` when nobody listens or it is something else
 */
export async function connectVm(socket: string, signal: AbortSignal): Promise<VmConnection> {
  const client = await QmpClient.connect(socket, { signal, timeoutMs: GREETING_MS });
  const { major, minor, micro } = client.version.qemu;
  return {
    pid: QemuVm.over(client).peerPid(),
    version: `${major}.${minor}.${micro}`,
    execute: (command, args) => client.execute(command, args, { timeoutMs: ANSWER_MS }),
    [Symbol.asyncDispose]: () => client.close(),
  };
}

/** The same with a monitor of this process. */
export function connectMonitor(monitor: Monitor): VmConnection {
  const { major, minor, micro } = monitor.backend.version.qemu;
  return {
    pid: process.pid,
    version: `${major}.${minor}.${micro}`,
    async execute(command, args = {}) {
      return toPlainJson((await monitor.execute(command, args as JsonObject)) as JsonValue);
    },
    async [Symbol.asyncDispose]() {},
  };
}
