/** Where RAM blocks lie in guest-physical memory as far as the file itself tells. Whatever it tells is checked before it is believed. */
import { guestAddress } from '../branded.js';
import { decodeDevice } from '../stream/device-decoder.js';
import type { DeviceSection } from '../stream/device-sections.js';
import type { Container } from './container.js';
import type { GuestRegion } from './guest-map.js';

interface Block {
  readonly idstr: string;
  readonly usedLength: number;
}

/** What a saved VM has that may tell. */
export interface RegionSources {
  readonly blocks: readonly Block[];
  readonly container: Container;
  readonly devices: readonly DeviceSection[];
  readonly manifest: unknown;
}

/** What mapram asked the VM when it saved it; where it did not, what devices and libvirt tell of plugged memory. */
export function knownRegions({ blocks, container, devices, manifest }: RegionSources): GuestRegion[] {
  const recorded = recordedRegions(manifest);
  const regions =
    recorded.length > 0
      ? recorded
      : [...virtioMemRegions(devices, blocks), ...libvirtRegions(container.libvirt?.xml ?? '', blocks)];
  return regions.filter((region) => isPossible(region, blocks));
}

function isPossible({ idstr, start, length, blockOffset }: GuestRegion, blocks: readonly Block[]): boolean {
  const block = blocks.find((candidate) => candidate.idstr === idstr);
  const numbers = [start, length, blockOffset];
  return (
    block !== undefined &&
    numbers.every((number) => Number.isSafeInteger(number) && number >= 0) &&
    length > 0 &&
    blockOffset + length <= block.usedLength
  );
}

function recordedRegions(manifest: unknown): GuestRegion[] {
  const { guestRegions } = (manifest ?? {}) as { guestRegions?: unknown };
  if (!Array.isArray(guestRegions)) return [];
  return guestRegions.filter(
    (region): region is GuestRegion => typeof region === 'object' && region !== null && 'idstr' in region,
  );
}

/** A virtio-mem device sends its address along, and is called like its block: `0000:00:01.0/…`. */
function virtioMemRegions(devices: readonly DeviceSection[], blocks: readonly Block[]): GuestRegion[] {
  return devices.flatMap(({ idstr, description, data }) => {
    const [, place] = /^(.*\/)virtio-mem-device(?:-early)?$/.exec(idstr) ?? [];
    if (place === undefined || description === undefined) return [];
    const checks = decodeDevice(description, data).fields.find(({ name }) => name === 'tmp')?.value;
    if (typeof checks !== 'object' || checks === null || !('kind' in checks) || checks.kind !== 'struct')
      return [];
    const { addr, region_size: size } = Object.fromEntries(
      checks.fields.map(({ name, value }) => [name, Number(value)]),
    );
    const block = blocks.find((one) => one.idstr.startsWith(place) && one.usedLength === size);
    if (block === undefined || addr === undefined) return [];
    return [{ idstr: block.idstr, start: guestAddress(addr), length: block.usedLength, blockOffset: 0 }];
  });
}

/** The domain XML names slot and address of each DIMM, and libvirt calls the block after the slot. */
function libvirtRegions(xml: string, blocks: readonly Block[]): GuestRegion[] {
  return [...xml.matchAll(/<address type='dimm' slot='(\d{1,4})' base='0x([0-9a-f]{1,13})'\/>/g)].flatMap(
    ([, slot, base = '']) => {
      const block = blocks.find(({ idstr }) => idstr === `memdimm${slot}`);
      if (block === undefined) return [];
      return [
        {
          idstr: block.idstr,
          start: guestAddress(Number.parseInt(base, 16)),
          length: block.usedLength,
          blockOffset: 0,
        },
      ];
    },
  );
}
