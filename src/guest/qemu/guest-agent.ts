/**
 * The QEMU guest agent of a VM: JSON lines over a virtio-serial port of the name below, which QEMU passes on to a socket.
 *
 *     -device virtio-serial -chardev socket,id=agent,path=PATH,server=on,wait=off
 *     -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
 *
 * The byte FF makes the agent forget half a command of somebody else; it sends one back before its answer to
 * `guest-sync-delimited`, so that old answers can be told from this one.
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';
import { parseSocketAddress, type SocketAddress } from '../../qmp/socket-address.js';
import type { QemuVm } from './qemu-vm.js';

const AGENT_PORT = 'org.qemu.guest_agent.0';
/** No answer of the commands used here comes near it; the guest may send anything. */
const MAX_ANSWER_BYTES = 64 * 1024;
const DELIMITER = 0xff;
const NEWLINE = 0x0a;

/**
 * Where the agent of a VM is spoken to.
 *
 * @param pid QEMU, for relative paths
 * @throws MapramError `VM` where it has no port for one, or none with a socket that is free
 */
export async function agentAddress(vm: QemuVm, pid: number | undefined): Promise<SocketAddress> {
  const refuse = (problem: string) =>
    new MapramError('VM', `speaking to the guest agent of the VM at ${vm.address}: ${problem}`, {
      path: vm.address,
    });
  const label = await agentChardev(vm);
  if (label === undefined)
    throw refuse(
      `it has no port ${AGENT_PORT}; start QEMU with -device virtserialport,name=${AGENT_PORT},chardev=…`,
    );
  const chardevs = await vm.client.execute('query-chardev');
  const filename = chardevs.find((chardev) => chardev.label === label)?.filename ?? '';
  const [, state, address] = /^(disconnected:)?((?:unix|tcp):[^,]*)(?:,|$)/.exec(filename) ?? [];
  if (address === undefined || !/,server(?:,|=on|$)/.test(filename))
    throw refuse(`its character device ${label} is no socket that QEMU listens on (${filename})`);
  if (state === undefined) throw refuse(`another program is connected to ${address}`);
  const parsed = parseSocketAddress(address);
  return 'path' in parsed ? { path: path.resolve(workingDirectory(pid), parsed.path) } : parsed;
}

function workingDirectory(pid: number | undefined): string {
  try {
    return pid === undefined ? '/' : readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '/';
  }
}

/** Name of the character device behind the agent's port. */
async function agentChardev(vm: QemuVm): Promise<string | undefined> {
  const get = (path: string, property: string) => vm.client.execute('qom-get', { path, property });
  for (const folder of ['/machine/peripheral', '/machine/peripheral-anon']) {
    for (const { name, type } of await vm.client.execute('qom-list', { path: folder })) {
      if (type !== 'child<virtserialport>') continue;
      const port = `${folder}/${name}`;
      if ((await get(port, 'name')) === AGENT_PORT) return String(await get(port, 'chardev'));
    }
  }
  return undefined;
}

/** A connection to an agent. */
export class GuestAgent implements Disposable {
  #received = Buffer.alloc(0);

  private constructor(
    private readonly socket: Socket,
    private readonly signal: AbortSignal,
  ) {}

  /**
   * Connects, and waits until the agent answers.
   *
   * @param signal gives up; an agent that is not there never answers
   */
  static async connect(address: SocketAddress, signal: AbortSignal): Promise<GuestAgent> {
    const socket = createConnection({ ...address });
    socket.on('error', () => {});
    const agent = new GuestAgent(socket, signal);
    try {
      await once(socket, 'connect', { signal });
      const id = randomInt(2 ** 31);
      const command = `{"execute":"guest-sync-delimited","arguments":{"id":${id}}}\n`;
      socket.write(Buffer.concat([Buffer.from([DELIMITER]), Buffer.from(command)]));
      for (;;) {
        await agent.#take(DELIMITER);
        if ((await agent.#answer()) === id) return agent;
      }
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /**
   * Sets the guest's clock.
   *
   * @param ms since 1970, UTC
   * @throws MapramError `VM` with the agent's words
   */
  async setTime(ms: number): Promise<void> {
    // In nanoseconds, which are too many for a number.
    const time = BigInt(Math.round(ms)) * 1_000_000n;
    this.socket.write(`{"execute":"guest-set-time","arguments":{"time":${time}}}\n`);
    await this.#answer();
  }

  async #answer(): Promise<unknown> {
    const line = (await this.#take(NEWLINE)).toString('utf8');
    let answer: { return?: unknown; error?: { desc?: unknown } } | null;
    try {
      answer = JSON.parse(line) as typeof answer;
    } catch {
      throw new MapramError('VM', 'the guest agent answers something else than JSON');
    }
    if (answer?.error !== undefined)
      throw new MapramError('VM', `the guest agent refuses: ${String(answer.error.desc)}`);
    return answer?.return;
  }

  /** What comes up to the next `end`, which is dropped. */
  async #take(end: number): Promise<Buffer> {
    for (;;) {
      const at = this.#received.indexOf(end);
      if (at >= 0) {
        const taken = this.#received.subarray(0, at);
        this.#received = this.#received.subarray(at + 1);
        return taken;
      }
      if (this.#received.length > MAX_ANSWER_BYTES)
        throw new MapramError('VM', 'the guest agent answers without end');
      this.signal.throwIfAborted();
      const chunk = this.socket.read() as Buffer | null;
      if (chunk !== null) this.#received = Buffer.concat([this.#received, chunk]);
      else if (this.socket.readableEnded || this.socket.destroyed)
        throw new MapramError('VM', `QEMU closed the connection to the guest agent`);
      else await this.#more();
    }
  }

  async #more(): Promise<void> {
    const waiting = new AbortController();
    const signal = AbortSignal.any([this.signal, waiting.signal]);
    try {
      await Promise.race(['readable', 'end', 'close'].map((event) => once(this.socket, event, { signal })));
    } catch (error) {
      this.signal.throwIfAborted();
      throw new MapramError('VM', `speaking to the guest agent: ${errorReason(error)}`, { cause: error });
    } finally {
      waiting.abort();
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
