/**
 * Devices that were plugged into a running QEMU, as options of a command line that has them from the start. Which they are QEMU reports
 * by their property `hotplugged`; CPUs and memory are described in full by `query-hotpluggable-cpus` and `query-memory-devices`, other
 * devices by where they are, and by their properties of type `str`, which name back ends and addresses.
 */

import type { PlainJson } from '../../json/plain-json.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { OptionList } from '../../launch/option-list.js';
import type { QemuVm } from './qemu-vm.js';

/** Devices with a name, and those without. */
const FOLDERS = ['/machine/peripheral', '/machine/peripheral-anon'];
/** Set by QEMU where the user has not. */
const NOT_GIVEN = new Set(['romfile', 'type']);

/** `-object` and `-device` options, objects before the devices that use them; empty where nothing was plugged in. */
export async function pluggedDevices(vm: QemuVm): Promise<CommandLineOption[]> {
  const options: CommandLineOption[] = [];
  for (const folder of FOLDERS) {
    for (const { name, type } of await vm.client.execute('qom-list', { path: folder })) {
      const driver = /^child<(.*)>$/.exec(type)?.[1];
      const device = {
        path: `${folder}/${name}`,
        driver: driver ?? '',
        id: folder === FOLDERS[0] ? name : undefined,
      };
      if (driver === undefined || (await property(vm, device.path, 'hotplugged')) !== true) continue;
      options.push(...(await optionsOf(vm, device)));
    }
  }
  return options;
}

interface Device {
  path: string;
  driver: string;
  id: string | undefined;
}

async function optionsOf(vm: QemuVm, device: Device): Promise<CommandLineOption[]> {
  const { driver, id } = device;
  const identity = id === undefined ? {} : { id };
  if (driver === 'pc-dimm') return await memoryModule(vm, device);
  const cpus = driver.endsWith('-cpu') ? await vm.client.execute('query-hotpluggable-cpus') : [];
  const cpu = cpus.find((candidate) => candidate['qom-path'] === device.path);
  const own = cpu === undefined ? await placeOf(vm, device) : numbersOf(cpu.props);
  return [{ name: 'device', value: OptionList.of(driver, { ...identity, ...own }).toString() }];
}

async function memoryModule(vm: QemuVm, { path, id }: Device): Promise<CommandLineOption[]> {
  const modules = await vm.client.execute('query-memory-devices');
  const data = modules
    .map((module) => module.data)
    .find((module) => `/machine/peripheral/${module.id}` === path);
  if (data === undefined || id === undefined) return [];
  const memdev = String(data.memdev).replace('/objects/', '');
  const { slot, addr, node, size } = data;
  return [
    {
      name: 'object',
      value: OptionList.of('memory-backend-ram', { id: memdev, size: Number(size) }).toString(),
    },
    {
      name: 'device',
      value: OptionList.of('pc-dimm', { id, memdev, ...numbersOf({ slot, addr, node }) }).toString(),
    },
  ];
}

function numbersOf(props: { readonly [name: string]: PlainJson | undefined }): { [name: string]: string } {
  return Object.fromEntries(
    Object.entries(props).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}

/** Bus and address of a device, and what names its back ends. */
async function placeOf(vm: QemuVm, { path, driver }: Device): Promise<{ [name: string]: string }> {
  const found: { [name: string]: string } = {};
  const bus = await property(vm, path, 'parent_bus');
  if (typeof bus === 'string' && bus !== '') found.bus = bus.slice(bus.lastIndexOf('/') + 1);
  const known = await vm.client.execute('device-list-properties', { typename: driver });
  for (const { name, type, 'default-value': usual } of known) {
    if (type !== 'str' || NOT_GIVEN.has(name)) continue;
    const value = await property(vm, path, name);
    if (name === 'addr' && typeof value === 'number')
      found.addr = `${(value >> 3).toString(16)}.${value & 7}`;
    else if (typeof value === 'string' && value !== '' && value !== usual) found[name] = value;
  }
  return found;
}

async function property(vm: QemuVm, path: string, name: string): Promise<PlainJson | undefined> {
  try {
    return (await vm.client.execute('qom-get', { path, property: name })) as PlainJson;
  } catch {
    return undefined;
  }
}
