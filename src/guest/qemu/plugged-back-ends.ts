/**
 * Back ends that were added to a running QEMU by its monitor, as options of a command line. No command tells them all: objects and
 * character devices are in QOM, block nodes in the block graph, network back ends only in what `info network` prints. What is not told
 * well enough is named instead of guessed.
 */
import { defined } from '../../defined.js';
import type { PlainJson } from '../../json/plain-json.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { OptionList } from '../../launch/option-list.js';
import { PluggedDisks } from './plugged-disks.js';
import type { QemuVm } from './qemu-vm.js';

type Texts = { [name: string]: string };
type Facts = { [name: string]: PlainJson };

/** Properties of devices that name a back end, and the option that adds one. */
const KINDS: Readonly<Record<string, 'chardev' | 'netdev' | 'drive'>> = {
  chardev: 'chardev',
  netdev: 'netdev',
  drive: 'drive',
};

/** Of objects that devices are linked to: the properties that matter, and what they are by default. */
const OBJECTS: readonly { type: RegExp; properties: Readonly<Facts> }[] = [
  {
    type: /^memory-backend-(ram|file|memfd|shm)$/,
    properties: {
      size: 0,
      'mem-path': '',
      share: '',
      offset: 0,
      align: 0,
      pmem: false,
      readonly: false,
      'discard-data': false,
      hugetlb: false,
      hugetlbsize: 0,
      prealloc: false,
      merge: true,
      dump: true,
      reserve: true,
    },
  },
  { type: /^iothread$/, properties: { 'poll-max-ns': 32768, 'poll-grow': 0, 'poll-shrink': 0 } },
  { type: /^rng-(random|builtin)$/, properties: { filename: '' } },
];

export class BackEnds {
  readonly #wanted = new Map<string, 'object' | 'chardev' | 'netdev' | 'drive'>();
  readonly #given: ReadonlySet<string>;

  /** @param given back ends of this command line are there anyway */
  constructor(
    private readonly vm: QemuVm,
    given: readonly CommandLineOption[],
  ) {
    this.#given = new Set(
      given.flatMap(({ name, value = '' }) => {
        const list = OptionList.parse(value, name);
        return [list.get('id') ?? [], list.get('node-name') ?? []]
          .flat()
          .map((id) => `${family(name)} ${id}`);
      }),
    );
  }

  /** A device has this property. */
  note(name: string, type: string, value: string): void {
    const kind = type.startsWith('link<') ? 'object' : KINDS[name];
    if (kind !== undefined && !this.#given.has(`${family(kind)} ${value}`)) this.#wanted.set(value, kind);
  }

  async described(): Promise<{ options: CommandLineOption[]; unknown: string[] }> {
    const options: CommandLineOption[] = [];
    const unknown: string[] = [];
    for (const [id, kind] of this.#wanted) {
      const found =
        kind === 'object'
          ? await this.#object(id)
          : kind === 'chardev'
            ? await this.#chardev(id)
            : kind === 'netdev'
              ? await this.#netdev(id)
              : await this.#drive(id);
      if (found === undefined) unknown.push(`${kind} ${id}`);
      else options.push(...found);
    }
    return { options, unknown };
  }

  async #object(id: string): Promise<CommandLineOption[] | undefined> {
    const path = `/objects/${id}`;
    const type = await this.#get(path, 'type');
    const known = OBJECTS.find((one) => one.type.test(String(type)));
    if (known === undefined) return undefined;
    const texts: Texts = {};
    for (const [name, usual] of Object.entries(known.properties)) {
      const value = await this.#get(path, name);
      if (value !== undefined && value !== usual)
        texts[name] = typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
    }
    return [option('object', String(type), { id, ...texts })];
  }

  async #chardev(id: string): Promise<CommandLineOption[] | undefined> {
    const chardevs = await this.vm.client.execute('query-chardev');
    const filename = chardevs.find(({ label }) => label === id)?.filename ?? '';
    if (filename === 'null') return [option('chardev', 'null', { id })];
    if (filename.startsWith('pty:')) return [option('chardev', 'pty', { id })];
    if (!/^(disconnected:)?(unix|tcp):/.test(filename)) return undefined;
    const address = (await this.#get(`/chardevs/${id}`, 'addr')) as Facts | undefined;
    const { type, path, host, port, abstract } = address ?? {};
    const server = /,server(?:,|=on|$)/.test(filename) ? { server: 'on', wait: 'off' } : {};
    if (type === 'unix' && typeof path === 'string' && abstract !== true)
      return [option('chardev', 'socket', { id, path, ...server })];
    if (type === 'inet' && typeof host === 'string' && typeof port === 'string')
      return [option('chardev', 'socket', { id, host, port, ...server })];
    return undefined;
  }

  /** `info network`: ` \ net0: index=0,type=user,net=10.0.2.0,restrict=off` */
  async #netdev(id: string): Promise<CommandLineOption[] | undefined> {
    const lines = (await this.vm.humanCommand('info network')).split(/\r?\n/);
    const line = lines.map((text) => text.replace(/^ \\ /, '')).find((text) => text.startsWith(`${id}: `));
    const list = OptionList.parse(line?.slice(id.length + 2) ?? '', 'index');
    const [type, ifname] = [list.get('type'), list.get('ifname')];
    if (type === 'user' && list.get('net') === '10.0.2.0') {
      const restrict = list.get('restrict') === 'on' ? { restrict: 'on' } : {};
      const forwards = forwardsOf(id, await this.vm.humanCommand('info usernet'));
      const base = option('netdev', 'user', { id, ...restrict }).value;
      return [{ name: 'netdev', value: [base, ...forwards.map((one) => `hostfwd=${one}`)].join(',') }];
    }
    if (type === 'tap' && ifname !== undefined) {
      const scripts = defined({ script: list.get('script'), downscript: list.get('downscript') });
      return [option('netdev', 'tap', { id, ifname, ...scripts })];
    }
    if (type === 'bridge' || (type === 'tap' && list.has('br')))
      return [option('netdev', 'bridge', { id, ...defined({ br: list.get('br') }) })];
    return undefined;
  }

  async #drive(id: string): Promise<CommandLineOption[] | undefined> {
    return await PluggedDisks.describe(this.vm, id, (name) => this.#given.has(`disk ${name}`));
  }

  async #get(path: string, property: string): Promise<PlainJson | undefined> {
    try {
      return (await this.vm.client.execute('qom-get', { path, property })) as PlainJson;
    } catch {
      return undefined;
    }
  }
}

/** Names of nodes and of drives are of one kind, those of other options are not. */
function family(option: string): string {
  return option === 'blockdev' || option === 'drive' ? 'disk' : option;
}

function option(name: string, first: string, pairs: Texts): CommandLineOption & { value: string } {
  return { name, value: OptionList.of(first, pairs).toString() };
}

/**
 * `info usernet`, of one back end:
 *
 *     Hub -1 (net0):
 *       Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
 *       TCP[HOST_FORWARD]  14       127.0.0.1 41515       10.0.2.15    22     0     0
 */
function forwardsOf(id: string, text: string): string[] {
  const part = text.split(/^(?=Hub )/m).find((one) => one.split('\n', 1)[0]?.includes(`(${id})`));
  const rows =
    part?.matchAll(/^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)\s/gm) ?? [];
  return [...rows].map(([, protocol = '', from = '', port, to, toPort]) => {
    const host = from === '*' ? '' : from;
    return `${protocol.toLowerCase()}:${host}:${port}-${to}:${toPort}`;
  });
}
