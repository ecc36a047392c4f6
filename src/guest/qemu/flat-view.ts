/**
 * Where a running QEMU has its RAM blocks in guest-physical memory. There is no QMP command for this: `info mtree -f` is read
 * through `human-monitor-command`.
 *
 *     FlatView #0
 *      AS "memory", root: system
 *      Root memory region: system
 *       0000000000000000-000000000009ffff (prio 0, ram): pc.ram
 *       00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
 *       0000000000100000-000000007fffffff (prio 0, ram): pc.ram @0000000000100000
 *
 * The number behind `@` is the offset in the memory region. Regions have the names of their blocks, those of devices without the
 * device's path. Later views are those of I/O ports and of devices.
 */
import { guestAddress } from '../../branded.js';
import type { GuestRegion } from '../../mapped-ram/guest-map.js';

const ROW =
  /^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:ram|rom|romd)\): (.+?)(?: @([0-9a-f]{16}))?(?: KVM)?\s*$/;

/**
 * Pieces of a block that a ROM or a screen interrupts are taken together, for memory is there all the same; whatever lies over
 * larger regions is left out.
 */
export function parseFlatView(text: string, idstrs: readonly string[]): GuestRegion[] {
  const views = text.split(/^FlatView #\d+\s*$/m);
  const system = views.find((view) => /^ AS "memory", root: system\s*$/m.test(view)) ?? '';
  const regions = new Map<string, GuestRegion>();
  for (const line of system.split('\n')) {
    const [, first, last, name = '', offset = '0'] = ROW.exec(line) ?? [];
    if (first === undefined || last === undefined) continue;
    const idstr = blockOf(name, idstrs);
    if (idstr === undefined) continue;
    const [start, end, blockOffset] = [first, last, offset].map((digits) => Number.parseInt(digits, 16)) as [
      number,
      number,
      number,
    ];
    // Views are in ascending order.
    const key = `${start - blockOffset} ${idstr}`;
    const begun = regions.get(key);
    if (begun === undefined)
      regions.set(key, { idstr, start: guestAddress(start), length: end + 1 - start, blockOffset });
    else begun.length = end + 1 - begun.start;
  }
  const apart: GuestRegion[] = [];
  for (const region of [...regions.values()].sort((one, other) => other.length - one.length)) {
    if (!apart.some((other) => overlap(region, other))) apart.push(region);
  }
  return apart.sort((one, other) => one.start - other.start);
}

function overlap(one: GuestRegion, other: GuestRegion): boolean {
  return one.start < other.start + other.length && other.start < one.start + one.length;
}

function blockOf(name: string, idstrs: readonly string[]): string | undefined {
  if (idstrs.includes(name)) return name;
  const ofDevices = idstrs.filter((idstr) => idstr.endsWith(`/${name}`));
  return ofDevices.length === 1 ? ofDevices[0] : undefined;
}
