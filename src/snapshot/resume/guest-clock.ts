/**
 * The clock of a guest that was saved. It goes on from where it was: the guest does not notice that time has passed, and its clock is
 * behind by the age of the file until something sets it.
 */
import { errorReason } from '../../errors.js';
import { agentAddress, GuestAgent } from '../../guest/qemu/guest-agent.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

/** When a VM was saved, ISO 8601 in UTC; undefined where the file does not tell. */
export function savedAt(image: MappedRamImage): string | undefined {
  const { createdAt } = (image.manifest ?? {}) as { createdAt?: unknown };
  return typeof createdAt === 'string' && Number.isFinite(Date.parse(createdAt)) ? createdAt : undefined;
}

/** An agent that runs answers at once, but a guest that has just been loaded may be slow. */
const PATIENCE_MS = 10_000;

/**
 * Makes sure that there is a way to the agent; asked while the VM waits, before anything is loaded.
 *
 * @returns what sets the guest's clock to the host's time once it runs, and tells whether it could
 * @throws MapramError `VM` where there is none
 */
export async function clockSetter(
  vm: QemuVm,
  pid: number | undefined,
  onWarning: (message: string) => void = () => {},
): Promise<(runState: string, signal?: AbortSignal) => Promise<boolean>> {
  const address = await agentAddress(vm, pid);
  return async (runState, signal) => {
    const failed = (reason: string) => {
      onWarning(`the guest's clock was not set: ${reason}`);
      return false;
    };
    if (runState !== 'running') return failed(`the guest is ${runState}`);
    const patience = AbortSignal.timeout(PATIENCE_MS);
    try {
      const limit = signal === undefined ? patience : AbortSignal.any([signal, patience]);
      using agent = await GuestAgent.connect(address, limit);
      await agent.setTime(Date.now());
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      return failed(
        patience.aborted
          ? `no guest agent has answered for ${PATIENCE_MS / 1000} s; is qemu-guest-agent running in the guest?`
          : errorReason(error),
      );
    }
  };
}
