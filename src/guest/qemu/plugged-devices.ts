/**
 * Devices that were plugged into a running QEMU, and the back ends that were added for them, as options of a command line that has them
 * from the start. Which they are QEMU reports by their property `hotplugged`; what they are, by their properties, of which those count
 * that are not what they are by default. CPUs are described in full by `query-hotpluggable-cpus`.
 */

import { defined } from '../../defined.js';
import type { PlainJson } from '../../json/plain-json.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { OptionList } from '../../launch/option-list.js';
import { BackEnds } from './plugged-back-ends.js';
import type { QemuVm } from './qemu-vm.js';

/** Devices with a name, and those without. */
const FOLDERS = ['/machine/peripheral', '/machine/peripheral-anon'];
/**
 * Set by QEMU where the user has not (the ROM's file by its machine type, the geometry by the size of the disk), or for developers
 * only.
 */
const NOT_GIVEN = /^(romfile|type|cyls|heads|secs|x-.*)$/;
const NUMBER = /^(u?int(8|16|32|64)?|size)$/;

export interface PluggedDevices {
  /** Objects, character devices, network and block back ends, and then the devices, each after the one that it is plugged into. */
  options: CommandLineOption[];
  /** In people's words, back ends of these devices that QEMU does not describe well enough. */
  unknown: string[];
}

interface Device {
  path: string;
  driver: string;
  id: string | undefined;
}

interface DescribedDevice {
  device: Device;
  option: CommandLineOption;
  /** Path of the device that has its bus. */
  parent: string | undefined;
}

/** @param given the command line of that QEMU; back ends that it names are not described again */
export async function pluggedDevices(
  vm: QemuVm,
  given: readonly CommandLineOption[],
): Promise<PluggedDevices> {
  const backEnds = new BackEnds(vm, given);
  const found: DescribedDevice[] = [];
  for (const folder of FOLDERS) {
    for (const { name, type } of await vm.client.execute('qom-list', { path: folder })) {
      const driver = /^child<(.*)>$/.exec(type)?.[1];
      if (driver === undefined) continue;
      const device = { path: `${folder}/${name}`, driver, id: folder === FOLDERS[0] ? name : undefined };
      if ((await property(vm, device.path, 'hotplugged')) !== true) continue;
      found.push(await describe(vm, device, backEnds));
    }
  }
  const { options, unknown } = await backEnds.described();
  return { options: [...options, ...inOrder(found).map(({ option }) => option)], unknown };
}

async function describe(vm: QemuVm, device: Device, backEnds: BackEnds): Promise<DescribedDevice> {
  const { driver, id, path } = device;
  const cpus = driver.endsWith('-cpu') ? await vm.client.execute('query-hotpluggable-cpus') : [];
  const cpu = cpus.find((candidate) => candidate['qom-path'] === path);
  const bus = cpu === undefined ? await property(vm, path, 'parent_bus') : undefined;
  const own = cpu === undefined ? await propertiesOf(vm, device, backEnds) : textsOf(cpu.props);
  const place = typeof bus === 'string' && bus !== '' ? { bus: bus.slice(bus.lastIndexOf('/') + 1) } : {};
  const value = OptionList.of(driver, { ...defined({ id }), ...place, ...own }).toString();
  const parent = /^\/machine\/peripheral(?:-anon)?\/[^/]+/.exec(String(bus))?.[0];
  return { device, option: { name: 'device', value }, parent };
}

function textsOf(props: { readonly [name: string]: PlainJson | undefined }): { [name: string]: string } {
  return Object.fromEntries(
    Object.entries(props).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}

/** Those that are not what they are by default; back ends that are named among them are noted. */
async function propertiesOf(
  vm: QemuVm,
  { path, driver }: Device,
  backEnds: BackEnds,
): Promise<{ [name: string]: string }> {
  const found: { [name: string]: string } = {};
  const known = await vm.client.execute('device-list-properties', { typename: driver });
  for (const { name, type, 'default-value': usual } of known) {
    if (NOT_GIVEN.test(name)) continue;
    const text = textOf(name, type, await property(vm, path, name), usual);
    if (text === undefined) continue;
    found[name] = text;
    backEnds.note(name, type, text);
  }
  return found;
}

/** A property as a command line has it; undefined where it needs not be there. */
function textOf(
  name: string,
  type: string,
  value: PlainJson | undefined,
  usual: PlainJson | undefined,
): string | undefined {
  if (type.startsWith('link<')) return /^\/objects\/([^/]+)$/.exec(String(value))?.[1];
  if (type === 'str' && name === 'addr' && typeof value === 'number')
    return `${(value >> 3).toString(16)}.${value & 7}`;
  if (NUMBER.test(type)) {
    const isNumber = typeof value === 'number' || typeof value === 'bigint';
    // What has no default is for reading; but for the place in the boot order, where none is -1.
    const other = name === 'bootindex' ? -1 : usual;
    return isNumber && other !== undefined && value !== other ? String(value) : undefined;
  }
  if (type === 'bool' && typeof value === 'boolean' && typeof usual === 'boolean')
    return value === usual ? undefined : value ? 'on' : 'off';
  const isChosen = type === 'str' || typeof usual === 'string';
  return isChosen && typeof value === 'string' && value !== '' && value !== usual ? value : undefined;
}

/** Devices after the ones into which they are plugged. */
function inOrder(devices: readonly DescribedDevice[]): DescribedDevice[] {
  const ordered: DescribedDevice[] = [];
  let left = [...devices];
  while (left.length > 0) {
    const waits = ({ parent }: DescribedDevice) => left.some(({ device }) => device.path === parent);
    const next = left.filter((one) => !waits(one));
    // None would be free only if a QEMU claimed a circle.
    ordered.push(...(next.length === 0 ? left : next));
    left = next.length === 0 ? [] : left.filter(waits);
  }
  return ordered;
}

async function property(vm: QemuVm, path: string, name: string): Promise<PlainJson | undefined> {
  try {
    return (await vm.client.execute('qom-get', { path, property: name })) as PlainJson;
  } catch {
    return undefined;
  }
}
