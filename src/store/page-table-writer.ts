/**
 * Builds the page table over a file from its chunks, in ascending order. A node can be written once the packs of all its entries have
 * their names; one that is as in the parent is not written again.
 */
import { NODE_ENTRIES } from './format.js';
import type { FrameCodec } from './frame-codec.js';
import type { FrameSlot, PackWriter } from './pack-writer.js';
import { type FrameReference, PageNode } from './page-node.js';

/** A chunk whose pack may not have a name yet. */
export interface PlacedFrame {
  readonly name: Buffer;
  readonly slot: FrameSlot;
}

export type Entry = FrameReference | PlacedFrame;

interface OpenNode {
  /** Its number among those of its level. */
  readonly number: number;
  readonly entries: Map<number, Entry>;
  /** The same node of the parent. */
  readonly asParent: FrameReference | undefined;
}

export class PageTableWriter {
  /** Packs that entries lead to. */
  readonly packs = new Set<string>();
  /** Nodes whose packs are not all named. */
  readonly #waiting: OpenNode[] = [];
  /** Those of level 1 that are written. */
  readonly #leaves = new Map<number, Entry>();

  constructor(
    private readonly levels: number,
    private readonly codec: FrameCodec,
    /** Where nodes are put. */
    private readonly nodes: PackWriter,
  ) {}

  /** @param asParent the parent's node of this number */
  async addLeaf(
    number: number,
    entries: Map<number, Entry>,
    asParent: FrameReference | undefined,
  ): Promise<void> {
    if (entries.size > 0) this.#waiting.push({ number, entries, asParent });
    // A top node is part of the root.
    while (this.levels > 1 && this.#waiting[0] !== undefined && isNamed(this.#waiting[0])) {
      const leaf = this.#waiting.shift() as OpenNode;
      this.#leaves.set(leaf.number, await this.#write(leaf, 1));
    }
  }

  /**
   * After the last leaf, and after all packs of chunks are closed.
   *
   * @returns the top node
   */
  async finish(
    parents: (level: number, number: number) => Promise<FrameReference | undefined>,
  ): Promise<PageNode> {
    if (this.levels === 1) return this.#node(this.#waiting[0]?.entries ?? new Map(), 1);
    await this.addLeaf(0, new Map(), undefined);
    let below = this.#leaves;
    for (let level = 2; ; level++) {
      await this.nodes.close();
      const groups = grouped(below);
      if (level === this.levels) return this.#node(groups.get(0) ?? new Map(), level);
      const written = new Map<number, Entry>();
      for (const [number, entries] of groups) {
        const asParent = await parents(level, number);
        written.set(number, await this.#write({ number, entries, asParent }, level));
      }
      below = written;
    }
  }

  async #write({ entries, asParent }: OpenNode, level: number): Promise<Entry> {
    const bytes = this.#node(entries, level).encode();
    const name = this.codec.name('node', bytes);
    if (asParent?.name.equals(name)) return asParent;
    return { name, slot: await this.nodes.add(this.codec.encode(name, bytes)) };
  }

  #node(entries: Map<number, Entry>, level: number): PageNode {
    const node = new PageNode(level);
    for (const [index, entry] of entries) {
      const reference = named(entry);
      this.packs.add(reference.pack);
      node.set(index, reference);
    }
    return node;
  }
}

function isNamed({ entries }: OpenNode): boolean {
  for (const entry of entries.values()) if ('slot' in entry && entry.slot.pack.id === undefined) return false;
  return true;
}

function named(entry: Entry): FrameReference {
  if (!('slot' in entry)) return entry;
  const { name, slot } = entry;
  if (slot.pack.id === undefined) throw new Error('a node was written before the packs that it leads to');
  return { name, pack: slot.pack.id, offset: slot.offset, length: slot.length };
}

/** Nodes by the number of the node above. */
function grouped(nodes: ReadonlyMap<number, Entry>): Map<number, Map<number, Entry>> {
  const groups = new Map<number, Map<number, Entry>>();
  for (const [number, entry] of nodes) {
    const above = Math.floor(number / NODE_ENTRIES);
    const group = groups.get(above) ?? new Map<number, Entry>();
    groups.set(above, group.set(number % NODE_ENTRIES, entry));
  }
  return groups;
}
