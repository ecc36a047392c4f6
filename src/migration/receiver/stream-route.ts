/**
 * The way between QEMU and this process, for a stream in either direction:
 *
 * | | passed descriptor | private socket |
 * |---|---|---|
 * | connections | one | one, and another for each multifd channel |
 * | needs | QMP over a Unix socket | a QEMU whose user may enter a directory of mode 0700 |
 * | saving | | QEMU connects to it |
 * | loading | | QEMU listens on it |
 */
import { geteuid } from 'node:process';
import { errorReason, MapramError } from '../../errors.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { PrivateDirectory } from '../../io/file/private-directory.js';
import { processUsers } from '../../io/process/process-user.js';
import { DescriptorListener } from '../../io/socket/descriptor-listener.js';
import { connectBlocking } from '../../io/socket/socket-connection.js';
import { peerCredentials, socketPair } from '../../io/socket/unix-socket.js';

export interface StreamRoute extends AsyncDisposable {
  /** For the command `migrate`, or `migrate-incoming`. */
  uri: string;
  /** The process that has connected; undefined where it was passed its end, or cannot be told (another PID namespace). */
  readonly peerPid?: number | undefined;
  /**
   * The connections, as blocking descriptors, once QEMU has the command. The caller closes them.
   *
   * @throws MapramError `MIGRATION` where QEMU does not connect, or somebody else does; `signal`'s reason
   */
  connect(signal: AbortSignal): Promise<number[]>;
}

/** QEMU connects at once; if it cannot (a sandbox, another host), waiting longer does not help. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Under which QEMU knows the descriptor. */
const DESCRIPTOR_NAME = 'mapram-stream';

/**
 * The way of a stream that QEMU sends.
 *
 * @param connections one for a plain stream, one more than there are multifd channels otherwise
 * @throws MapramError `UNSUPPORTED` where there is none
 */
export async function openRouteFrom(vm: QemuVm, connections: number): Promise<StreamRoute> {
  const passed = connections === 1 ? await passDescriptor(vm) : undefined;
  if (passed) return passed;
  assertConnectable(vm, 'receiving the stream of', 'save');
  const listener = await DescriptorListener.open();
  const user = foreignUser(vm);
  if (user !== undefined) listener.letIn(user);
  let peerPid: number | undefined;
  return {
    uri: `unix:${listener.path}`,
    get peerPid() {
      return peerPid;
    },
    async connect(signal) {
      const sockets = await acceptAll(vm, listener, connections, signal);
      peerPid = sockets[0] === undefined ? undefined : peerCredentials(sockets[0]).pid || undefined;
      return sockets;
    },
    [Symbol.asyncDispose]: () => listener.close(),
  };
}

/** The way of a stream that QEMU waits for. As `openRouteFrom`. */
export async function openRouteTo(vm: QemuVm, connections: number): Promise<StreamRoute> {
  const passed = connections === 1 ? await passDescriptor(vm) : undefined;
  if (passed) return passed;
  assertConnectable(vm, 'streaming to', 'restore');
  const directory = new PrivateDirectory();
  const user = foreignUser(vm);
  if (user !== undefined) directory.letIn(user);
  const path = directory.file('socket');
  return {
    uri: `unix:${path}`,
    connect: () => connectAll(vm, path, connections),
    [Symbol.asyncDispose]: async () => directory[Symbol.dispose](),
  };
}

/** Undefined over TCP, or where something between this process and QEMU does not pass descriptors on. */
async function passDescriptor(vm: QemuVm): Promise<StreamRoute | undefined> {
  if (!vm.client.canPassDescriptors) return undefined;
  const [ours, theirs] = socketPair();
  try {
    await vm.client.execute('getfd', { fdname: DESCRIPTOR_NAME }, { descriptors: [theirs] });
  } catch {
    releaseFiles([ours]);
    return undefined;
  } finally {
    releaseFiles([theirs]);
  }
  let taken = false;
  return {
    uri: `fd:${DESCRIPTOR_NAME}`,
    async connect() {
      taken = true;
      return [ours];
    },
    async [Symbol.asyncDispose]() {
      if (taken) return;
      releaseFiles([ours]);
      // The migration has not begun, and QEMU would keep its end.
      await vm.client.execute('closefd', { fdname: DESCRIPTOR_NAME }).catch(() => {});
    },
  };
}

function assertConnectable(vm: QemuVm, doing: string, command: string): void {
  const problem = whyNotConnectable(vm);
  if (problem === undefined) return;
  throw new MapramError(
    'UNSUPPORTED',
    `${doing} the VM at ${vm.address}: ${problem}; ${command} with --no-multifd, or as root or that user`,
    { path: vm.address },
  );
}

/** Why there can be no connections but one that is passed to QEMU, undefined if there can or that cannot be told. */
export function whyNotConnectable(vm: QemuVm): string | undefined {
  const user = foreignUser(vm);
  if (user === undefined || geteuid?.() === 0) return undefined;
  return `QEMU runs as user ${user}, who may not enter the private directory of this process, where multifd channels connect`;
}

/** The user of QEMU, where that is neither this one nor root. */
function foreignUser(vm: QemuVm): number | undefined {
  const user = userOf(vm.peerPid());
  return user === 0 || user === geteuid?.() ? undefined : user;
}

/** The user whose rights a process has on files; undefined where that cannot be told. */
function userOf(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  try {
    return processUsers(pid)[3];
  } catch {
    return undefined;
  }
}

/** Takes exactly the connections that QEMU makes, and stops listening then. */
async function acceptAll(
  vm: QemuVm,
  listener: DescriptorListener,
  count: number,
  signal: AbortSignal,
): Promise<number[]> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
  const sockets: number[] = [];
  let qemu = vm.peerPid();
  try {
    while (sockets.length < count) {
      const socket = await listener.accept(limit).catch(async (error: unknown) => {
        if (signal.aborted) throw error;
        throw await notConnected(vm, listener.path, `${sockets.length} of ${count} connections`, error);
      });
      sockets.push(socket);
      const { pid } = peerCredentials(socket);
      qemu ??= pid;
      if (pid !== qemu) {
        throw new MapramError(
          'MIGRATION',
          `receiving the stream of the VM at ${vm.address}: process ${pid} connected to ${listener.path}, which belongs to the QEMU with process id ${qemu}`,
          { path: vm.address },
        );
      }
    }
    await listener.close();
    return sockets;
  } catch (error) {
    releaseFiles(sockets);
    throw error;
  }
}

async function notConnected(vm: QemuVm, path: string, made: string, cause: unknown): Promise<MapramError> {
  const { 'error-desc': reason } = await vm.migrationInfo();
  const how = reason ? `and gave up: ${reason}` : `within ${CONNECT_TIMEOUT_MS / 1000} s`;
  return new MapramError(
    'MIGRATION',
    `receiving the stream of the VM at ${vm.address}: QEMU made ${made} to ${path} ${how}; it must run on this host, as a user who can enter that directory`,
    { path: vm.address, cause },
  );
}

/**
 * The first connection is the main channel for QEMU 7.2, whatever is sent on it. Later versions look at the first bytes of each and
 * answer no command until they have come.
 */
async function connectAll(vm: QemuVm, path: string, count: number): Promise<number[]> {
  const sockets: number[] = [];
  try {
    while (sockets.length < count) sockets.push(await connectBlocking(path));
    return sockets;
  } catch (cause) {
    releaseFiles(sockets);
    throw new MapramError(
      'MIGRATION',
      `connecting to the VM at ${vm.address} on ${path}: ${errorReason(cause)}; QEMU must run on this host, as a user who can enter that directory`,
      { path, cause },
    );
  }
}
