/** Block nodes that were added to a running QEMU by `blockdev-add` or `drive_add`, as options of a command line. */
import { defined } from '../../defined.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { OptionList } from '../../launch/option-list.js';
import type { BlockGraph, BlockNode } from '../../qmp/qmp-commands.js';
import type { QemuVm } from './qemu-vm.js';

const FILES = new Set(['file', 'host_device']);
/** Formats that need to be told nothing but the file in which they are. */
const FORMATS = new Set(['qcow', 'qcow2', 'qed', 'raw', 'vdi', 'vhdx', 'vmdk', 'vpc']);
/** QEMU names nodes so that the user has not named. */
const UNNAMED = '#';
/** Nodes below each other; no chain of formats is as long. */
const MAX_DEPTH = 8;

export class PluggedDisks {
  readonly #options: CommandLineOption[] = [];

  private constructor(
    private readonly nodes: readonly BlockNode[],
    private readonly graph: BlockGraph,
    private readonly isGiven: (name: string) => boolean,
  ) {}

  /**
   * @param name of a node or, from `drive_add`, of a drive
   * @param isGiven whether the command line has a node of that name
   * @returns the option for each node, those below first; undefined where one is more than a format in a file
   */
  static async describe(
    vm: QemuVm,
    name: string,
    isGiven: (name: string) => boolean,
  ): Promise<CommandLineOption[] | undefined> {
    const [nodes, graph] = await Promise.all([
      vm.client.execute('query-named-block-nodes', { flat: true }),
      vm.client.execute('x-debug-query-block-graph'),
    ]);
    const disks = new PluggedDisks(nodes, graph, isGiven);
    if (nodes.some((node) => node['node-name'] === name))
      return disks.#node(name, MAX_DEPTH) ? disks.#options : undefined;
    const drive = (await vm.client.execute('query-block')).find(({ device }) => device === name)?.inserted;
    return drive === undefined ? undefined : disks.#drive(name, drive);
  }

  #drive(id: string, { drv, file, ro }: BlockNode): CommandLineOption[] | undefined {
    if (!FORMATS.has(drv) || !isPlain(file)) return undefined;
    const list = OptionList.parse('if=none').set('id', id).set('file', file).set('format', drv);
    return [{ name: 'drive', value: (ro ? list.set('readonly', 'on') : list).toString() }];
  }

  /** Adds the options for a node; false where it cannot be told how it was made. */
  #node(name: string, depth: number): boolean {
    if (this.isGiven(name)) return true;
    const node = this.nodes.find((one) => one['node-name'] === name);
    if (node === undefined || depth === 0 || node.encrypted === true) return false;
    const below = FILES.has(node.drv) ? fileOf(node, '') : this.#format(node, depth);
    if (below === undefined) return false;
    const { ro, detect_zeroes: zeroes, cache } = node;
    const pairs = {
      'node-name': name,
      ...below,
      ...defined({ 'read-only': ro ? 'on' : undefined }),
      ...defined({ 'detect-zeroes': zeroes === 'off' ? undefined : zeroes }),
      ...(cache.direct ? { 'cache.direct': 'on' } : {}),
      ...(cache['no-flush'] ? { 'cache.no-flush': 'on' } : {}),
    };
    this.#options.push({ name: 'blockdev', value: OptionList.of(node.drv, pairs).toString() });
    return true;
  }

  #format(node: BlockNode, depth: number): { [name: string]: string } | undefined {
    if (!FORMATS.has(node.drv)) return undefined;
    const children = this.#children(node['node-name']);
    const file = this.nodes.find((one) => one['node-name'] === children.get('file'));
    if (file === undefined) return undefined;
    // A part of a file would look the same but for its size.
    if (node.drv === 'raw' && node.image['virtual-size'] !== file.image['virtual-size']) return undefined;
    const backing = children.get('backing');
    const named = backing !== undefined && !backing.startsWith(UNNAMED) ? { backing } : {};
    if (named.backing !== undefined && !this.#node(named.backing, depth - 1)) return undefined;
    const name = file['node-name'];
    if (!name.startsWith(UNNAMED)) return this.#node(name, depth - 1) ? { file: name, ...named } : undefined;
    const implicit = FILES.has(file.drv) ? fileOf(file, 'file.') : undefined;
    return implicit && { 'file.driver': file.drv, ...implicit, ...named };
  }

  /** Names of the nodes below one, by what they are to it. */
  #children(name: string): Map<string, string> {
    const { nodes, edges } = this.graph;
    const id = nodes.find((node) => node.name === name)?.id;
    return new Map(
      edges
        .filter(({ parent }) => parent === id)
        .map(({ child, name: role }) => [role, nodes.find((node) => node.id === child)?.name ?? '']),
    );
  }
}

function fileOf({ file }: BlockNode, prefix: string): { [name: string]: string } | undefined {
  return isPlain(file) ? { [`${prefix}filename`]: file } : undefined;
}

/** QEMU describes what has options of its own as JSON. */
function isPlain(file: string): boolean {
  return file !== '' && !file.startsWith('json:');
}
