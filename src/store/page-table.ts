/** The page table over a stored file, read as far as it is needed. */
import { NODE_ENTRIES } from './format.js';
import type { FrameReader } from './frame-reader.js';
import type { FrameReference, PageNode } from './page-node.js';
import type { StoredFile } from './snapshot-root.js';

/** Nodes that are kept: one covers 64 MiB of the file, and has up to 150 KB. */
const KEPT_NODES = 64;
/** Nodes that are fetched at once by those who want all. */
const GROUP = 32;

export class PageTable {
  readonly #nodes = new Map<string, PageNode>();
  /** Nodes that are being fetched. */
  readonly #loading = new Map<string, Promise<PageNode>>();

  /** @param ahead how many nodes are fetched when one is wanted: more than one for those who read from start to end */
  constructor(
    readonly file: StoredFile,
    private readonly reader: FrameReader,
    private readonly ahead = 1,
  ) {}

  /** The node of level 1 that has the entries of chunks `number × 1024` and following; undefined where all of them are zero. */
  leaf(number: number): Promise<PageNode | undefined> {
    return this.#node(1, number);
  }

  /** What leads to the node of this level and number; undefined where there is none, and for the top. */
  async reference(level: number, number: number): Promise<FrameReference | undefined> {
    if (level >= this.file.levels) return undefined;
    const above = await this.#node(level + 1, Math.floor(number / NODE_ENTRIES));
    return above?.get(number % NODE_ENTRIES);
  }

  async #node(wanted: number, number: number): Promise<PageNode | undefined> {
    let node = this.file.top;
    if (wanted > node.level || number >= NODE_ENTRIES ** (node.level - wanted)) return undefined;
    while (node.level > wanted) {
      const index = Math.floor(number / NODE_ENTRIES ** (node.level - 1 - wanted)) % NODE_ENTRIES;
      const reference = node.get(index);
      if (reference === undefined) return undefined;
      node = this.#nodes.get(keyOf(reference)) ?? (await this.#loadOnce(node, index, keyOf(reference)));
    }
    return node;
  }

  /** References of `count` chunks from `first` on; undefined for those that are zero. */
  async references(first: number, count: number): Promise<(FrameReference | undefined)[]> {
    const references: (FrameReference | undefined)[] = [];
    for (let chunk = first; chunk < first + count; chunk++) {
      const leaf = await this.leaf(Math.floor(chunk / NODE_ENTRIES));
      references.push(leaf?.get(chunk % NODE_ENTRIES));
    }
    return references;
  }

  /** All nodes of level 1 that are not empty, with their numbers, in ascending order. */
  async *leaves(): AsyncGenerator<[number: number, leaf: PageNode]> {
    yield* this.#below(this.file.top, 0);
  }

  /** All nodes but the top. */
  async *nodeReferences(): AsyncGenerator<FrameReference> {
    yield* this.#referencesBelow(this.file.top);
  }

  async *#below(node: PageNode, number: number): AsyncGenerator<[number, PageNode]> {
    if (node.level === 1) {
      if (!node.isEmpty) yield [number, node];
      return;
    }
    const entries = [...node.entries()];
    for (let at = 0; at < entries.length; at += GROUP) {
      const group = entries.slice(at, at + GROUP);
      const nodes = await this.reader.nodes(
        group.map(([, reference]) => reference),
        node.level - 1,
      );
      for (const [place, child] of nodes.entries()) {
        const [index] = group[place] as [number, FrameReference];
        yield* this.#below(child, number * NODE_ENTRIES + index);
      }
    }
  }

  async *#referencesBelow(node: PageNode): AsyncGenerator<FrameReference> {
    if (node.level === 1) return;
    for (const [, reference] of node.entries()) {
      yield reference;
      if (node.level === 2) continue;
      const [child] = await this.reader.nodes([reference], node.level - 1);
      yield* this.#referencesBelow(child as PageNode);
    }
  }

  /** Those who want a node at the same time share one request. */
  #loadOnce(parent: PageNode, index: number, key: string): Promise<PageNode> {
    const running =
      this.#loading.get(key) ?? this.#load(parent, index).finally(() => this.#loading.delete(key));
    this.#loading.set(key, running);
    return running;
  }

  async #load(parent: PageNode, index: number): Promise<PageNode> {
    const references: FrameReference[] = [];
    for (let at = index; at < NODE_ENTRIES && references.length < this.ahead; at++) {
      const reference = parent.get(at);
      if (reference !== undefined) references.push(reference);
    }
    const nodes = await this.reader.nodes(references, parent.level - 1);
    while (this.#nodes.size + nodes.length > KEPT_NODES) {
      const [oldest] = this.#nodes.keys();
      this.#nodes.delete(oldest as string);
    }
    for (const [at, node] of nodes.entries()) this.#nodes.set(keyOf(references[at] as FrameReference), node);
    return nodes[0] as PageNode;
  }
}

const keyOf = ({ name }: FrameReference): string => name.toString('latin1');
