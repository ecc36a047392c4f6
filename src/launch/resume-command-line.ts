/**
 * Rewrites a QEMU command line so that the process maps its RAM copy-on-write from a mapped-ram file and waits for the
 * device state:
 *
 *     -machine q35 -m 1G                  → -machine pc-q35-10.0,memory-backend=pc.ram -m 1G
 *                                           -object memory-backend-file,id=pc.ram,size=…,mem-path=FILE,offset=…,
 *                                                   share=off,readonly=on,rom=off
 *     -object memory-backend-ram,id=m0,…  → -object memory-backend-file,id=m0,…, the same for each block of its own
 *     -incoming, -S, -loadvm, -daemonize  → -incoming defer (and -S where it is to stay paused)
 *
 * Everything else is left as it is. Whatever does not fit the file is refused here, before a process exists.
 */
import { MapramError } from '../errors.js';
import type { CommandLineOption } from './command-line.js';
import { machineFits, usesCanonicalIds } from './machine-type.js';
import { OptionList } from './option-list.js';
import { parseQemuSize, processorCount } from './quantities.js';

/** A RAM block of the file. */
export interface SnapshotBlock {
  idstr: string;
  usedLength: number;
  /** Where in the file its page area begins. */
  pagesOffset: number;
}

/** What a command line must fit. */
export interface SnapshotShape {
  /** Absolute path of the file. */
  file: string;
  /** The versioned machine type. */
  machine: string;
  blocks: readonly SnapshotBlock[];
  /** Undefined where the file does not tell. */
  processors?: number;
  /** Name of the block that is the machine's RAM where it has no memory object; undefined where the file does not tell. */
  defaultRamId?: string;
  /** False where the host has too little memory to set as much aside as the VM has. */
  reserve?: boolean;
}

export interface ResumeCommandLine {
  options: CommandLineOption[];
  /** The idstrs of the blocks that are mapped. */
  mapped: string[];
  warnings: string[];
}

/** Names of RAM of all machines of QEMU 10.0 (`default-ram-id` of `query-machines`). */
const MACHINE_RAM = /^[^/]*(?:(?:^|\.)(?:ram|s?dram|ext_ram|highmem)|^(?:ddr|ddr-ram|ext-sdram))$/i;

/**
 * Whether a block's name is one that machines give to their RAM: `pc.ram`, `mach-virt.ram`, `s390.ram`, on some boards just `ram`. Blocks
 * of devices have a path (`0000:00:02.0/vga.vram`, `/rom@etc/acpi/tables`), ROMs and flash other names (`pc.bios`, `virt.flash0`), memory
 * objects the id that the user chose.
 */
export function isMachineRam(idstr: string): boolean {
  return MACHINE_RAM.test(idstr);
}

/** RAM of `-m`, where none is given. */
const DEFAULT_RAM = 128 * 2 ** 20;

/** Options that would bring in a state or a process that is not wanted; `incoming` is given anew. */
const DROPPED = new Set(['incoming', 'S', 'loadvm', 'daemonize', 'mem-path', 'mem-prealloc']);

/** Properties of a memory backend that mean the same for a mapped file. */
const KEPT_PROPERTIES = /^(merge|dump|reserve|policy|host-nodes(\.\d+)?)$/;

/**
 * @param stayPaused keep the guest stopped after loading, whatever the file says
 * @throws MapramError `VM` naming what differs; `UNSUPPORTED` for what cannot work with private memory
 */
export function resumeCommandLine(
  given: readonly CommandLineOption[],
  snapshot: SnapshotShape,
  { stayPaused = false }: { stayPaused?: boolean } = {},
): ResumeCommandLine {
  const refuse = refusal(snapshot.file);
  refuseImpossible(given, snapshot.file);
  const memory = memoryPlan(given, snapshot, refuse);
  checkProcessors(given, snapshot, refuse);
  const options: CommandLineOption[] = [];
  for (const [index, option] of given.entries()) {
    if (DROPPED.has(option.name) || option.name === 'machine') continue;
    const replacement = memory.objects.get(index);
    options.push(replacement === undefined ? option : { name: 'object', value: replacement });
  }
  const head: CommandLineOption[] = [
    { name: 'machine', value: machineArgument(given, snapshot, memory, refuse) },
  ];
  if (memory.added !== undefined) head.push({ name: 'object', value: memory.added });
  options.unshift(...head);
  options.push({ name: 'incoming', value: 'defer' });
  if (stayPaused) options.push({ name: 'S' });
  return { options, mapped: memory.mapped, warnings: warningsAbout(given) };
}

type Refuse = (difference: string) => MapramError;

function refusal(file: string): Refuse {
  return (difference) => new MapramError('VM', `resuming ${file}: ${difference}`, { path: file });
}

interface MemoryPlan {
  /** New arguments of `-object` options, by index of the option. */
  objects: Map<number, string>;
  /** An object for RAM that the command line only sizes with -m. */
  added?: string;
  /** What the machine's `memory-backend` is to be. */
  mainBackend?: string;
  mapped: string[];
}

/** Which memory of the command line is which block of the file. */
function memoryPlan(
  given: readonly CommandLineOption[],
  snapshot: SnapshotShape,
  refuse: Refuse,
): MemoryPlan {
  const plan: MemoryPlan = { objects: new Map(), mapped: [] };
  const backends = memoryBackends(given);
  const machineBackend = machineProperty(given, 'memory-backend');
  const nodes = backendsOf(given, 'numa', 'type', (list) => list.get('memdev'));
  const modules = backendsOf(given, 'device', 'driver', (list) =>
    list.get('driver') === 'pc-dimm' ? list.get('memdev') : undefined,
  );
  const mapObject = (id: string): SnapshotBlock => {
    const backend = backends.get(id);
    if (backend === undefined) {
      throw refuse(`the command line uses the memory ${id}, but no -object memory-backend-… has that id`);
    }
    const block = snapshot.blocks.find(({ idstr }) => idstr === id || idstr === `/objects/${id}`);
    if (block === undefined) {
      throw refuse(
        `the command line has a RAM block ${id}, the file has ${listed(snapshot.blocks)}; start it with the memory options of the saved VM`,
      );
    }
    const size = parseQemuSize(backend.list.get('size') ?? '');
    if (size !== block.usedLength) {
      throw refuse(
        `the memory ${id} has ${size ?? 'no'} bytes in the command line and ${block.usedLength} in the file; give size=${block.usedLength}`,
      );
    }
    plan.objects.set(backend.index, backendArgument(id, block, snapshot, backend.list));
    plan.mapped.push(block.idstr);
    return block;
  };
  for (const id of modules) mapObject(id);
  let mainRam: number;
  if (machineBackend !== undefined) {
    mainRam = mapObject(machineBackend).usedLength;
    plan.mainBackend = machineBackend;
  } else if (nodes.length > 0) {
    mainRam = nodes.reduce((total, id) => total + mapObject(id).usedLength, 0);
  } else {
    const block = defaultBlock(snapshot, plan.mapped, refuse);
    plan.added = backendArgument(block.idstr, block, snapshot);
    plan.mainBackend = block.idstr;
    plan.mapped.push(block.idstr);
    mainRam = block.usedLength;
  }
  const size = ramSize(given);
  // Without -m the machine takes the size of its memory-backend.
  if (size === undefined ? plan.added !== undefined && mainRam !== DEFAULT_RAM : size !== mainRam) {
    throw refuse(
      `the VM in the file has ${mebibytes(mainRam)} of RAM, the command line ${mebibytes(size ?? DEFAULT_RAM)}; give -m ${mebibytes(mainRam).replace(' MiB', 'M')}`,
    );
  }
  return plan;
}

/** RAM without an object of its own: the block that the file names so, or the largest that may be it. */
function defaultBlock(snapshot: SnapshotShape, taken: readonly string[], refuse: Refuse): SnapshotBlock {
  const { blocks, defaultRamId } = snapshot;
  const candidates = blocks.filter(
    ({ idstr }) =>
      !taken.includes(idstr) && (defaultRamId === undefined ? isMachineRam(idstr) : idstr === defaultRamId),
  );
  const [largest] = candidates.toSorted((one, other) => other.usedLength - one.usedLength);
  if (largest === undefined) {
    throw refuse(
      `the file has the RAM blocks ${listed(blocks)}, the command line no memory of those names; give the -object memory-backend-… options of the saved VM`,
    );
  }
  return largest;
}

/** The argument of `-object` for one mapped block. */
function backendArgument(
  id: string,
  block: SnapshotBlock,
  snapshot: SnapshotShape,
  former?: OptionList,
): string {
  const list = OptionList.of('memory-backend-file', {
    id,
    size: block.usedLength,
    'mem-path': snapshot.file,
    offset: block.pagesOffset,
    // The file stays as it is: pages that the guest writes become private memory of this process.
    share: 'off',
    readonly: 'on',
    rom: 'off',
  });
  // The kernel refuses a private mapping that is larger than all memory of the host, though most of it will never be copied.
  if (snapshot.reserve === false) list.set('reserve', 'off');
  for (const key of former?.keys ?? []) {
    const value = former?.get(key);
    if (KEPT_PROPERTIES.test(key) && value !== undefined) list.set(key, value);
  }
  const canonical = block.idstr.startsWith('/objects/');
  if (canonical || usesCanonicalIds(snapshot.machine)) {
    list.set('x-use-canonical-path-for-ramblock-id', canonical ? 'on' : 'off');
  }
  return list.toString();
}

/** All `-machine` options in one, as QEMU merges them, with the type of the file. */
function machineArgument(
  given: readonly CommandLineOption[],
  snapshot: SnapshotShape,
  { mainBackend }: MemoryPlan,
  refuse: Refuse,
): string {
  const properties = new Map<string, string>();
  for (const { name, value } of given) {
    if (name !== 'machine' || value === undefined) continue;
    const list = OptionList.parse(value, 'type');
    for (const key of list.keys) properties.set(key, list.get(key) ?? '');
  }
  const type = properties.get('type');
  if (type !== undefined && !machineFits(type, snapshot.machine)) {
    throw refuse(
      `the file is of machine type ${snapshot.machine}, the command line says ${type}; give -machine ${snapshot.machine}`,
    );
  }
  properties.delete('type');
  if (mainBackend !== undefined) properties.set('memory-backend', mainBackend);
  return OptionList.of(snapshot.machine, Object.fromEntries(properties)).toString();
}

function checkProcessors(given: readonly CommandLineOption[], { processors }: SnapshotShape, refuse: Refuse) {
  if (processors === undefined) return;
  const smp = lastOf(given, 'smp');
  const plugged = backendsOf(given, 'device', 'driver', (list) =>
    /-cpu$/.test(list.get('driver') ?? '') ? 'cpu' : undefined,
  ).length;
  const present = processorCount(smp === undefined ? undefined : OptionList.parse(smp, 'cpus'));
  if (present === undefined || present + plugged === processors) return;
  throw refuse(
    `the VM in the file has ${processors} CPUs, the command line ${present + plugged}; give -smp ${processors}`,
  );
}

/** What no private, lazily filled memory can serve, or what this process cannot pass on. */
function refuseImpossible(given: readonly CommandLineOption[], file: string): void {
  const refuse = (problem: string) =>
    new MapramError('UNSUPPORTED', `resuming ${file}: ${problem}`, { path: file });
  for (const { name, value = '' } of given) {
    if (/vhost-user/.test(value) && (name === 'device' || name === 'netdev')) {
      throw refuse(
        `-${name} ${value} shares the guest's memory with another process, which a copy-on-write mapping cannot; use "mapram restore"`,
      );
    }
    if (
      name === 'add-fd' ||
      /(^|[,:{"])(vhost)?fds?"?[=:]\s*"?\d/.test(value) ||
      value.includes('/dev/fdset/')
    ) {
      throw refuse(
        `-${name} ${value} names a descriptor that was passed to the saved QEMU by the program that started it; give a command line without descriptors behind --${name === 'netdev' ? ', with -netdev user,id=… or -netdev tap,ifname=… of the same id in its place' : ''}`,
      );
    }
  }
}

/** Whether the guest can give memory back, which the mapping of a file cannot take. */
export function hasBalloon(given: readonly CommandLineOption[]): boolean {
  return balloons(given).length > 0;
}

function balloons(given: readonly CommandLineOption[]): OptionList[] {
  return given.flatMap(({ name, value }) => {
    if (name !== 'device' || value === undefined) return [];
    const device = OptionList.parse(value, 'driver');
    return device.get('driver')?.startsWith('virtio-balloon') ? [device] : [];
  });
}

function warningsAbout(given: readonly CommandLineOption[]): string[] {
  const warnings: string[] = [];
  if (given.some(({ name }) => name === 'snapshot')) {
    warnings.push(
      'the VM was started with -snapshot: what it wrote to its disks before it was saved is gone, its file systems may not match its memory',
    );
  }
  if (balloons(given).some((balloon) => /^(on|true|yes)$/.test(balloon.get('free-page-reporting') ?? ''))) {
    warnings.push(
      'the guest reports free memory (free-page-reporting=on), but memory that is mapped from a file cannot be given back to the host; QEMU says so again and again, most of which is left out',
    );
  }
  if (given.some(({ name, value }) => name === 'overcommit' && /mem-lock=on\b(?!-)/.test(value ?? ''))) {
    warnings.push('-overcommit mem-lock=on reads all of the file into private memory at the start');
  }
  return warnings;
}

function memoryBackends(
  given: readonly CommandLineOption[],
): Map<string, { index: number; list: OptionList }> {
  const backends = new Map<string, { index: number; list: OptionList }>();
  for (const [index, { name, value }] of given.entries()) {
    if (name !== 'object' || value === undefined) continue;
    const list = OptionList.parse(value, 'qom-type');
    const id = list.get('id');
    if (id !== undefined && list.get('qom-type')?.startsWith('memory-backend-'))
      backends.set(id, { index, list });
  }
  return backends;
}

function backendsOf(
  given: readonly CommandLineOption[],
  option: string,
  impliedKey: string,
  pick: (list: OptionList) => string | undefined,
): string[] {
  return given.flatMap(({ name, value }) => {
    if (name !== option || value === undefined) return [];
    return pick(OptionList.parse(value, impliedKey)) ?? [];
  });
}

function machineProperty(given: readonly CommandLineOption[], key: string): string | undefined {
  return given
    .filter(({ name, value }) => name === 'machine' && value !== undefined)
    .map(({ value }) => OptionList.parse(value as string, 'type').get(key))
    .findLast((value) => value !== undefined);
}

/** Bytes of `-m`, or undefined where it is not given. */
function ramSize(given: readonly CommandLineOption[]): number | undefined {
  const argument = lastOf(given, 'm');
  const size = argument === undefined ? undefined : OptionList.parse(argument, 'size').get('size');
  return size === undefined ? undefined : parseQemuSize(size, 'M');
}

function lastOf(given: readonly CommandLineOption[], name: string): string | undefined {
  return given.findLast((option) => option.name === name)?.value;
}

function listed(blocks: readonly SnapshotBlock[]): string {
  return blocks
    .filter(({ idstr }) => !idstr.startsWith('/rom@'))
    .map(({ idstr }) => idstr)
    .join(', ');
}

function mebibytes(bytes: number): string {
  return `${bytes / 2 ** 20} MiB`;
}
