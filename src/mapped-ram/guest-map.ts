/**
 * Where RAM blocks lie in guest-physical memory. Files that mapram saved tell (`known-regions.ts`), and those saved with
 * `x-ignore-shared`; for the rest the machine type decides:
 *
 * ```text
 *                 0              lowEnd          4 GiB
 * pc, q35,        | main block    |  PCI, MMIO   | rest of the main block …
 * microvm         | 0 … lowEnd    |       pc.bios|
 *
 * machine   the main block is split when it has    lowEnd is then
 * pc        3.5 GiB (0xe0000000) or more           3 GiB
 * q35       2.75 GiB (0xb0000000) or more          2 GiB
 * microvm   more than 3 GiB                        3 GiB
 * aarch64 virt   not split, starts at 1 GiB
 * riscv64 virt   not split, starts at 2 GiB
 * pseries, s390  not split, starts at 0
 * ```
 *
 * The backends of several NUMA nodes follow one another as one main block would. Which is which tells only their name, where
 * libvirt has given it: `ram-node0`, `ram-node1`, …
 */
import { type GuestAddress, guestAddress } from '../branded.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import type { Bytes } from '../units.js';

/** A part of a block that lies in one piece in guest-physical memory. */
export interface GuestRegion {
  idstr: string;
  /** Guest-physical address of its first byte. */
  start: GuestAddress;
  /** Bytes. */
  length: Bytes;
  /** Byte of the block at `start`. */
  blockOffset: Bytes;
}

interface PlacedBlock {
  idstr: string;
  usedLength: number;
  guestAddress?: number;
}

const GIB = 2 ** 30;
const FOUR_GIB = 4 * GIB;

interface MachineMemory {
  machine: RegExp;
  /** Default name of the block that is the machine's memory. */
  block: string;
  start: number;
  /** Where memory of `length` bytes is interrupted, for the machines that do so. */
  lowEnd?(length: number): number;
}

const MACHINES: readonly MachineMemory[] = [
  {
    machine: /^pc-q35-/,
    block: 'pc.ram',
    start: 0,
    lowEnd: (length) => (length >= 0xb0000000 ? 2 * GIB : length),
  },
  {
    machine: /^pc-i440fx-/,
    block: 'pc.ram',
    start: 0,
    lowEnd: (length) => (length >= 0xe0000000 ? 3 * GIB : length),
  },
  { machine: /^microvm$/, block: 'microvm.ram', start: 0, lowEnd: (length) => Math.min(length, 3 * GIB) },
  { machine: /^virt-/, block: 'mach-virt.ram', start: GIB },
  { machine: /^virt$/, block: 'riscv_virt_board.ram', start: 2 * GIB },
  { machine: /^pseries-/, block: 'ppc_spapr.ram', start: 0 },
  { machine: /^s390-ccw-virtio-/, block: 's390.ram', start: 0 },
  { machine: /^mapram-builtin-/, block: 'builtin.ram', start: 2 ** 20 },
];

/** Firmware that x86 machines map so that it ends at 4 GiB. */
const FIRMWARE = 'pc.bios';

/** Guest-physical addresses of blocks, both ways. */
export class GuestMap {
  /** In ascending order of `start`, without overlaps. */
  readonly regions: readonly GuestRegion[];
  /** Names of the blocks whose place is not known. */
  readonly unplaced: readonly string[];

  /** `known`: regions that are known otherwise; what they say of a block is all that is said of it. */
  constructor(
    configuration: Pick<StreamConfiguration, 'machine'>,
    blocks: readonly PlacedBlock[],
    known: readonly GuestRegion[] = [],
  ) {
    const machine = MACHINES.find((candidate) => candidate.machine.test(configuration.machine));
    const unknown = blocks.filter(({ idstr }) => !known.some((region) => region.idstr === idstr));
    const main = machine === undefined ? [] : mainBlocks(machine, unknown);
    const mainPieces = machine === undefined ? [] : mainRegions(main, machine);
    const regions: GuestRegion[] = [];
    const add = (region: GuestRegion): boolean => {
      const end = region.start + region.length;
      if (!Number.isSafeInteger(end) || region.length === 0) return false;
      if (regions.some((other) => region.start < other.start + other.length && other.start < end))
        return false;
      regions.push(region);
      return true;
    };
    // Memory first: what lies over it in the guest (ROM shadowed by RAM) is not what is asked for.
    const others = unknown.filter((block) => !main.includes(block));
    for (const region of [...known, ...mainPieces]) add(region);
    for (const block of others) for (const region of placedRegions(block, machine)) add(region);
    this.regions = regions.sort((one, other) => one.start - other.start);
    this.unplaced = blocks
      .map(({ idstr }) => idstr)
      .filter((idstr) => !regions.some((region) => region.idstr === idstr));
  }

  /** The guest-physical address of a byte of a block; `undefined` where its place is not known. */
  addressOf(idstr: string, offset: number): GuestAddress | undefined {
    const region = this.regions.find(
      (candidate) =>
        candidate.idstr === idstr &&
        offset >= candidate.blockOffset &&
        offset < candidate.blockOffset + candidate.length,
    );
    return region && guestAddress(region.start + offset - region.blockOffset);
  }

  /**
   * The parts of blocks that make up guest memory from `address` on, in order. Shorter than `length` where there
   * is no memory in between: the caller sees it by the addresses.
   */
  *slices(address: GuestAddress, length: number): Generator<GuestRegion, void, undefined> {
    for (const { idstr, start, length: size, blockOffset } of this.regions) {
      const from = Math.max(start, address);
      const to = Math.min(start + size, address + length);
      if (from < to)
        yield {
          idstr,
          start: guestAddress(from),
          length: to - from,
          blockOffset: blockOffset + from - start,
        };
    }
  }
}

/** The block with the machine's default name, else those that libvirt has named after nodes, else the only one that can be it. */
function mainBlocks({ block: name }: MachineMemory, blocks: readonly PlacedBlock[]): readonly PlacedBlock[] {
  const named = blocks.find(({ idstr }) => idstr === name);
  if (named !== undefined) return [named];
  const nodes = blocks.flatMap((block) => {
    const [, node] = /^ram-node(\d+)$/.exec(block.idstr) ?? [];
    return node === undefined ? [] : [{ node: Number(node), block }];
  });
  if (nodes.length > 0) return nodes.sort((one, other) => one.node - other.node).map(({ block }) => block);
  // Devices' blocks have a path or a suffix; memory backends are called as their user liked.
  const candidates = blocks.filter(({ idstr }) => !/[/]|\.(rom|bios|vram|flash\d*)$/.test(idstr));
  return candidates.length === 1 ? candidates : nodesByAddress(candidates);
}

/** With `x-ignore-shared` the nodes' blocks have addresses within the machine's memory: one begins where another ends. */
function nodesByAddress(candidates: readonly PlacedBlock[]): readonly PlacedBlock[] {
  const nodes = [...candidates].sort((one, other) => (one.guestAddress ?? 0) - (other.guestAddress ?? 0));
  let end = 0;
  for (const { guestAddress, usedLength } of nodes) {
    if (guestAddress !== end) return [];
    end += usedLength;
  }
  return nodes;
}

/** One behind the other, interrupted where the machine's memory is. */
function mainRegions(blocks: readonly PlacedBlock[], { start, lowEnd }: MachineMemory): GuestRegion[] {
  const total = blocks.reduce((sum, { usedLength }) => sum + usedLength, 0);
  const low = lowEnd?.(total) ?? total;
  const regions: GuestRegion[] = [];
  let place = 0;
  for (const { idstr, usedLength } of blocks) {
    const below = Math.max(0, Math.min(usedLength, low - place));
    if (below > 0) regions.push({ idstr, start: guestAddress(start + place), length: below, blockOffset: 0 });
    if (below < usedLength) {
      const high = FOUR_GIB + place + below - low;
      regions.push({ idstr, start: guestAddress(high), length: usedLength - below, blockOffset: below });
    }
    place += usedLength;
  }
  return regions;
}

function placedRegions(
  { idstr, usedLength, guestAddress: given }: PlacedBlock,
  machine: MachineMemory | undefined,
): GuestRegion[] {
  // A region that is not mapped has address 0 too: nothing but main memory lies there.
  if (given !== undefined && (given > 0 || machine === undefined)) {
    return [{ idstr, start: guestAddress(given), length: usedLength, blockOffset: 0 }];
  }
  if (idstr === FIRMWARE && machine?.lowEnd !== undefined && usedLength <= FOUR_GIB) {
    return [{ idstr, start: guestAddress(FOUR_GIB - usedLength), length: usedLength, blockOffset: 0 }];
  }
  return [];
}
