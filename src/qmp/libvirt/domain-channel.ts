/**
 * QMP with the QEMU of a libvirt domain, through libvirt, which has the only connection to its monitor:
 *
 * ```
 * command           virsh qemu-monitor-command ──▶ libvirt ──▶ QEMU
 *   + descriptors     --pass-fds (libvirt 8.2, on this host)
 * events            virsh qemu-monitor-event --loop ◀── libvirt ◀── QEMU
 * ```
 *
 * libvirt marks the domain as tainted, and sees what QEMU does by QEMU's own events: a guest that a save stops and continues is `paused`
 * and `running` for libvirt too.
 */
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { errorReason, MapramError } from '../../errors.js';
import { closeFile } from '../../io/file/open-file.js';
import { createMemfd } from '../../io/memory/memfd.js';
import { holdersOf } from '../../io/process/descriptor-holders.js';
import { processUsers } from '../../io/process/process-user.js';
import type { PeerCredentials } from '../../io/socket/unix-socket.js';
import { JsonReader } from '../../json/json-reader.js';
import type { JsonObject } from '../../json/json-value.js';
import { writeJson } from '../../json/json-writer.js';
import { isJsonObject } from '../../options/qapi.js';
import type { QmpChannel, QmpRequest } from '../qmp-channel.js';
import { formatLibvirtAddress, type LibvirtAddress } from './libvirt-address.js';
import { Virsh } from './virsh.js';

/** Under which QEMU knows, for a moment, what it is found by. */
const PROBE_NAME = 'mapram-probe';
/** libvirt may close its own copy a moment after it has the reply. */
const PROBE_ATTEMPTS = 10;
const PROBE_PAUSE_MS = 10;

export class DomainChannel implements QmpChannel {
  readonly input = new Readable({
    read: () => {},
    destroy: (error, done) => {
      this.#virsh[Symbol.dispose]();
      done(error);
    },
  });
  peer: PeerCredentials | undefined;
  canPassDescriptors = false;
  readonly address: string;
  readonly #virsh: Virsh;

  private constructor(
    virsh: Virsh,
    private readonly domain: Domain,
    uri: string,
  ) {
    this.#virsh = virsh;
    // Whoever listens later finds it destroyed.
    this.input.on('error', () => {});
    this.address = formatLibvirtAddress({ domain: domain.uuid, uri });
  }

  /**
   * @throws MapramError `MONITOR` where virsh cannot be run, or libvirt or the domain does not answer; `cause` has the code ENOENT where
   * the domain does not run
   */
  static async open(address: LibvirtAddress, signal: AbortSignal): Promise<DomainChannel> {
    const name = formatLibvirtAddress(address);
    const virsh = new Virsh(address.uri);
    try {
      const [uri, domain] = await Promise.all([
        address.uri ?? virsh.run(['uri'], { signal }),
        findDomain(virsh, address.domain, signal),
      ]);
      const channel = new DomainChannel(virsh, domain, uri);
      const version = await channel.#execute({ execute: 'query-version' }, { signal });
      if (!isJsonObject(version.return)) throw new Error(`query-version: ${writeJson(version)}`);
      channel.#listen();
      await channel.#findProcess(signal);
      channel.#push({ QMP: { version: version.return, capabilities: [] } });
      return channel;
    } catch (error) {
      const gone = !signal.aborted && (await isRunning(virsh, address.domain)) === false;
      virsh[Symbol.dispose]();
      if (signal.aborted) throw error;
      throw new MapramError(
        'MONITOR',
        `cannot reach the monitor of ${name}: ${gone ? 'no domain of that name is running; ' : ''}${errorReason(error)}`,
        { path: name, cause: gone ? Object.assign(new Error('no such domain'), { code: 'ENOENT' }) : error },
      );
    }
  }

  async send(request: QmpRequest, descriptors: readonly number[]): Promise<void> {
    const { id, ...command } = request;
    // libvirt has done that.
    if (command.execute === 'qmp_capabilities') return this.#push({ return: {}, id });
    let reply: JsonObject;
    try {
      reply = await this.#execute(command, { descriptors });
    } catch (error) {
      if (this.input.destroyed) return;
      if ((await isRunning(this.#virsh, this.domain.uuid)) === false) {
        this.input.destroy(new Error(`the domain ${this.domain.name} has ended`));
        return;
      }
      reply = { error: { class: 'GenericError', desc: errorReason(error) } };
    }
    this.#push({ ...reply, id });
  }

  async #execute(
    command: Omit<QmpRequest, 'id' | 'arguments'> & { arguments?: unknown },
    options: { signal?: AbortSignal; descriptors?: readonly number[] },
  ): Promise<JsonObject> {
    const text = await this.#virsh.run(
      ['qemu-monitor-command', `--domain=${this.domain.uuid}`, `--cmd=${writeJson(command)}`],
      options,
    );
    const [message] = [...new JsonReader().push(Buffer.from(`${text}\n`))];
    if (message === undefined || message.error !== undefined || !isJsonObject(message.value))
      throw new Error(`virsh printed what is no reply of a QEMU: ${text.slice(0, 200)}`);
    return message.value;
  }

  #push(message: JsonObject): void {
    if (!this.input.destroyed) this.input.push(`${writeJson(message)}\r\n`);
  }

  #listen(): void {
    const { uuid, name } = this.domain;
    const command = ['qemu-monitor-event', `--domain=${uuid}`, '--loop', '--timestamp'];
    const onLine = (line: string) => {
      const event = parseEvent(line, name);
      if (event !== undefined && !this.input.destroyed) this.input.push(`${event}\r\n`);
    };
    this.#virsh.follow(command, onLine, (problem) => this.input.destroy(new Error(problem)));
  }

  /** Passes QEMU a descriptor that nobody else has, and looks which process has it then. */
  async #findProcess(signal: AbortSignal): Promise<void> {
    const probe = createMemfd(`${PROBE_NAME}-${randomUUID()}`, 0);
    try {
      const passed = { execute: 'getfd', arguments: { fdname: PROBE_NAME } };
      const reply = await this.#execute(passed, { signal, descriptors: [probe] }).catch((error: unknown) => {
        signal.throwIfAborted();
        return { error: { desc: errorReason(error) } };
      });
      this.canPassDescriptors = reply.error === undefined;
      if (!this.canPassDescriptors) return;
      this.peer = await onlyHolder(probe);
      await this.#execute({ execute: 'closefd', arguments: { fdname: PROBE_NAME } }, { signal });
    } finally {
      closeFile(probe);
    }
  }
}

interface Domain {
  readonly name: string;
  readonly uuid: string;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

async function findDomain(virsh: Virsh, domain: string, signal: AbortSignal): Promise<Domain> {
  const uuid = UUID.test(domain) ? domain : await virsh.run(['domuuid', `--domain=${domain}`], { signal });
  if (!UUID.test(uuid)) throw new Error(`virsh domuuid printed what is no UUID: ${uuid.slice(0, 200)}`);
  return { uuid, name: await virsh.run(['domname', `--domain=${uuid}`], { signal }) };
}

/** @param domain its UUID, name or number @returns undefined where libvirt does not answer */
async function isRunning(virsh: Virsh, domain: string): Promise<boolean | undefined> {
  const list = async (column: string) => (await virsh.run(['list', column])).split('\n');
  try {
    const columns = await Promise.all(['--uuid', '--name', '--id'].map(list));
    return columns.flat().includes(domain);
  } catch {
    return undefined;
  }
}

async function onlyHolder(fd: number): Promise<PeerCredentials | undefined> {
  for (let attempt = 0; attempt < PROBE_ATTEMPTS; attempt++) {
    const [pid, ...others] = holdersOf(fd);
    if (pid !== undefined && others.length === 0) {
      const uid = processUsers(pid)[0];
      return { pid, uid, gid: uid };
    }
    await delay(PROBE_PAUSE_MS);
  }
  return undefined;
}

const TIME = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)\.(\d{3})\d*\+0000: event ([A-Z0-9_]+) for domain '/;

/** The event in a line of virsh as a QEMU sends it. */
function parseEvent(line: string, domain: string): string | undefined {
  const [start = '', day, time, milliseconds, event] = TIME.exec(line) ?? [];
  const end = `${domain}': `;
  if (event === undefined || !line.startsWith(end, start.length)) return undefined;
  const data = line.slice(start.length + end.length);
  const at = Date.parse(`${day}T${time}.${milliseconds}Z`);
  const timestamp = { seconds: Math.floor(at / 1000), microseconds: (at % 1000) * 1000 };
  const members = data === '<null>' ? '' : `, "data": ${data}`;
  return `{"event": ${writeJson(event)}${members}, "timestamp": ${writeJson(timestamp)}}`;
}
