/**
 * Files whose contents are a RAM block of the machine, so that a saved VM has them inside and loading it writes them:
 *
 *     -drive if=pflash,unit=1,file=VARS, -pflash VARS, -machine pflash1=NODE     block system.flash1
 *     -object memory-backend-file,id=nv0,share=on,mem-path=FILE                  block nv0, of -device nvdimm, ivshmem-plain, …
 */
import { defined } from '../defined.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

export interface MemoryFile {
  /** `flash`: UEFI variables; `memory`: persistent or shared memory. */
  kind: 'flash' | 'memory';
  /** As the command line has it. */
  path: string;
  /** Where in the file the block begins. */
  offset: number;
  /** Of a flash image; undefined where QEMU is to find out itself. */
  format?: string;
  readOnly: boolean;
  /** Whether this is the RAM block called `idstr`. */
  isBlock(idstr: string): boolean;
}

/** Devices that show a file of the host to the guest as memory that outlives it. */
const PERSISTENT_DEVICES = /^(nvdimm|virtio-pmem.*|ivshmem-plain)$/;

export function memoryFiles(options: readonly CommandLineOption[]): MemoryFile[] {
  return [...flashFiles(options), ...persistentMemory(options)];
}

/** Memory backends on files that this process and others share. */
export interface SharedBackend {
  /** Index of the option. */
  option: number;
  id: string;
  list: OptionList;
  path: string;
}

export function sharedBackends(options: readonly CommandLineOption[]): SharedBackend[] {
  return options.flatMap(({ name, value }, option) => {
    if (name !== 'object' || value === undefined) return [];
    const list = OptionList.parse(value, 'qom-type');
    const [id, file] = [list.get('id'), list.get('mem-path')];
    const shared = list.get('qom-type') === 'memory-backend-file' && isOn(list.get('share'));
    return shared && id !== undefined && file !== undefined ? [{ option, id, list, path: file }] : [];
  });
}

/** What is a disk to the guest, although it is memory to QEMU. */
export function persistentMemory(options: readonly CommandLineOption[]): MemoryFile[] {
  const used = new Set(
    options.flatMap(({ name, value }) => {
      if (name !== 'device' || value === undefined) return [];
      const device = OptionList.parse(value, 'driver');
      return PERSISTENT_DEVICES.test(device.get('driver') ?? '') ? (device.get('memdev') ?? []) : [];
    }),
  );
  return sharedBackends(options)
    .filter(({ id }) => used.has(id))
    .map(({ id, list, path: file }) => ({
      kind: 'memory',
      path: file,
      offset: Number(list.get('offset') ?? 0),
      format: 'raw',
      readOnly: isOn(list.get('readonly')),
      isBlock: isMemoryBlock(id),
    }));
}

/** The options with each shared file of memory replaced by what `replace` gives. */
export function replaceSharedBackends(
  options: readonly CommandLineOption[],
  replace: (backend: SharedBackend) => string,
): CommandLineOption[] {
  const changed = [...options];
  for (const backend of sharedBackends(options)) {
    // The new file begins with the block, and is no device that could be told to keep what it gets.
    const list = backend.list.set('mem-path', replace(backend)).delete('offset').delete('pmem');
    changed[backend.option] = { name: 'object', value: list.toString() };
  }
  return changed;
}

/** A block is called as its backend, behind the path of its device where that has one. */
export function isMemoryBlock(id: string): (idstr: string) => boolean {
  return (idstr) => idstr === id || idstr === `/objects/${id}` || idstr.endsWith(`/${id}`);
}

/** `system.flash0` of x86, `virt.flash0` of Arm and RISC-V. */
export function isFlashBlock(unit: number): (idstr: string) => boolean {
  return (idstr) => idstr.endsWith(`.flash${unit}`);
}

function flashFiles(options: readonly CommandLineOption[]): MemoryFile[] {
  const files: MemoryFile[] = [];
  const units = new Set<number>();
  for (const { name, value = '' } of options) {
    if (name === 'pflash')
      files.push(flash(freeUnit(units), { path: value, format: 'raw', readOnly: false }));
    else if (name === 'drive') files.push(...flashDrive(value, units));
    else if (name === 'machine') files.push(...flashNodes(value, options));
  }
  return files;
}

function flash(unit: number, image: { path: string; format?: string; readOnly: boolean }): MemoryFile {
  return { kind: 'flash', ...image, offset: 0, isBlock: isFlashBlock(unit) };
}

/** Drives without a number get the first that is free. */
function freeUnit(units: Set<number>, wanted?: number): number {
  let unit = wanted ?? 0;
  while (wanted === undefined && units.has(unit)) unit++;
  units.add(unit);
  return unit;
}

function flashDrive(value: string, units: Set<number>): MemoryFile[] {
  const drive = OptionList.parse(value);
  const file = drive.get('file') ?? drive.get('file.filename');
  if (drive.get('if') !== 'pflash') return [];
  const wanted = drive.get('unit') ?? drive.get('index');
  const unit = freeUnit(units, wanted === undefined ? undefined : Number(wanted));
  if (file === undefined) return [];
  const format = drive.get('format') ?? drive.get('driver');
  const readOnly = isOn(drive.get('readonly')) || isOn(drive.get('read-only'));
  return [flash(unit, { path: file, readOnly, ...defined({ format }) })];
}

function flashNodes(value: string, options: readonly CommandLineOption[]): MemoryFile[] {
  const machine = OptionList.parse(value, 'type');
  return [0, 1].flatMap((unit) => {
    const node = machine.get(`pflash${unit}`);
    const image = node === undefined ? undefined : imageOfNode(node, options);
    return image === undefined ? [] : [flash(unit, image)];
  });
}

/** The file under a block node: named by it, or by the node that it stands on. */
function imageOfNode(name: string, options: readonly CommandLineOption[]) {
  const nodeCalled = (wanted: string) =>
    options
      .filter((option) => option.name === 'blockdev')
      .map(({ value = '' }) => OptionList.parse(value, 'driver'))
      .find((node) => node.get('node-name') === wanted);
  const node = nodeCalled(name);
  if (node === undefined) return undefined;
  const own = node.get('filename');
  const below = own === undefined ? nodeCalled(node.get('file') ?? '') : undefined;
  const file = own ?? node.get('file.filename') ?? below?.get('filename');
  // A raw node may be a part of its file.
  if (file === undefined || node.has('offset')) return undefined;
  const format = own === undefined ? node.get('driver') : 'raw';
  const readOnly = isOn(node.get('read-only')) || isOn(below?.get('read-only'));
  return { path: file, readOnly, ...defined({ format }) };
}

function isOn(value: string | undefined): boolean {
  return value === 'on' || value === 'true' || value === 'yes';
}
