import { InvalidArgumentError } from 'commander';
import { pictureOf } from '../../analysis/memory-picture.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { quoteForShell } from '../../launch/command-line.js';
import type { LaunchRecord } from '../../launch/launch-record.js';
import { type MachineHere, machineHere } from '../../launch/machine-here.js';
import { machineSupport } from '../../launch/machine-type.js';
import { parseManifest } from '../../manifest/manifest.js';
import type { GuestRegion } from '../../mapped-ram/guest-map.js';
import { formatSize } from '../../size.js';
import {
  type InspectedBlock,
  type InspectedDevice,
  type Inspection,
  inspectSaved,
} from '../../snapshot/inspect/inspect.js';
import { writeInspectionReport } from '../../snapshot/inspect/report.js';
import { openSaved } from '../../snapshot/store/open-saved.js';
import { deviceValues } from '../../stream/device-values.js';
import { parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { deviceTree } from '../device-tree.js';
import { plural, properties, table } from '../format.js';
import { mapFields, memoryMap, wantsColour } from '../memory-map.js';
import type { DeviceReport } from '../results.js';

export const inspect: CommandOf<'inspect'> = {
  name: 'inspect',
  summary: 'what is inside a saved VM: machine, RAM blocks, pages, device state',
  declare(command) {
    command
      .argument(
        '<file>',
        'a mapped-ram file or a migration stream, of mapram, QEMU or libvirt, or PLACE/NAME in a store',
      )
      .option('--devices', 'show every field of the device state')
      .option('--device <name>', 'show the fields of one device, by its name or the end of it', parseName)
      .option('--map', 'show a picture of memory: what is zero, text, code, dense, stale')
      .option('--html <path>', 'write a page with a zoomable map, blocks and devices')
      .option('--force', 'with --html: replace an existing file')
      .option('--offset <bytes>', 'where the stream starts, for a file saved with offset=', parseOffset)
      .addHelpText(
        'after',
        `
Examples:
  mapram inspect vm.mapram
  mapram inspect --device virtio-net vm.mapram
  mapram inspect --json vm.mapram | jq '.blocks[] | {idstr, usedLength}'`,
      );
  },
  dependent: { '--force': ['--html'] },
  async run([file], { devices, device, map, html, force, offset }, { signal, progress }) {
    const options = { signal, onProgress: progress };
    await using saved = await openSaved(String(file), {
      ...defined({ offset }),
      ...options,
    });
    const withState = devices === true || device !== undefined;
    const inspection = await inspectSaved(saved, {
      ...options,
      deviceState: withState || html !== undefined,
    });
    const shown = device === undefined ? inspection.devices : devicesCalled(inspection, device);
    const picture = map === true ? await pictureOf(saved, { ...options, maxCells: MAP_CELLS }) : undefined;
    if (html !== undefined) {
      await writeInspectionReport(saved, inspection, {
        html: String(html),
        force: force === true,
        ...options,
      });
    }
    const here = device === undefined ? await machineHere(inspection.machine) : undefined;
    const text = [
      ...(device === undefined ? [describe(inspection, here)] : []),
      ...(picture ? [memoryMap(picture, { colour: wantsColour(process.stdout, process.env) })] : []),
      ...(withState ? shown.map((one) => deviceTree(one)) : []),
    ];
    return {
      fields: {
        ...inspection,
        devices: shown.map((one) => jsonDevice(one, withState)),
        ...defined({ map: picture ? mapFields(picture) : undefined }),
        ...defined({ html: html === undefined ? undefined : String(html) }),
      },
      text,
      ...(inspection.problems.length === 0
        ? {}
        : { failed: `inspecting ${inspection.file}: ${inspection.problems.join('; ')}` }),
    };
  },
};

/** Characters of the map, about 40 rows. */
const MAP_CELLS = 2560;

function parseName(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected the name of a device.');
  return text;
}

/** Devices by their whole name, else by its last parts: `virtio-net` for `0000:00:03.0/virtio-net`. */
function devicesCalled({ file, devices }: Inspection, name: string): readonly InspectedDevice[] {
  const exact = devices.filter(({ idstr }) => idstr === name);
  const found = exact.length > 0 ? exact : devices.filter(({ idstr }) => idstr.endsWith(`/${name}`));
  if (found.length > 0) return found;
  const names = [...new Set(devices.map(({ idstr }) => idstr))].join(', ');
  throw new MapramError('USAGE', `inspecting ${file}: it has no device ${name}; it has ${names || 'none'}`, {
    path: file,
  });
}

function jsonDevice({ state, data, ...device }: InspectedDevice, withState: boolean): DeviceReport {
  if (!withState) return device;
  return { ...device, ...(state === undefined ? defined({ data }) : { fields: deviceValues(state) }) };
}

function describe(inspection: Inspection, here: MachineHere | undefined): string {
  const { file, machine, capabilities, pageSize, complete, devices, manifest } = inspection;
  const deviceBytes = devices.reduce((sum, device) => sum + device.length, 0);
  return [
    properties([
      [
        'file',
        `${file}, ${formatSize(inspection.fileBytes)}, ${formatSize(inspection.allocatedBytes)} on the disk`,
      ],
      ['container', describeContainer(inspection)],
      ['machine', machine === '' ? 'not told by the file' : describeMachine(machine)],
      ...(here === undefined ? [] : [['QEMU here', describeHere(here, machine)] as const]),
      ...(capabilities.length === 0 ? [] : [['capabilities', capabilities.join(', ')] as const]),
      ['complete', complete ? 'yes' : 'NO: the save did not finish, or the file was cut short'],
      [
        'RAM',
        `${formatSize(inspection.ramBytes)} in ${plural(inspection.blocks.length, 'block')}, pages of ${pageSize} bytes, ${formatSize(inspection.normalPages * pageSize)} of them written`,
      ],
      ['devices', `${plural(devices.length, 'section')}, ${formatSize(deviceBytes)}`],
      ...describeManifest(manifest),
      ...inspection.problems.map((problem) => ['problem', problem] as const),
    ]),
    '',
    describeBlocks(inspection),
  ].join('\n');
}

function describeMachine(machine: string): string {
  const support = machineSupport(machine);
  return support === undefined
    ? machine
    : `${machine} (deprecated from QEMU ${support.deprecated} on, gone in ${support.removed}; the newest major with it is ${support.newestMajor})`;
}

function describeHere({ program, state }: MachineHere, machine: string): string {
  if (state === 'there') return `${program} has ${machine}`;
  return state === 'deprecated'
    ? `${program} has ${machine}, deprecated: a later QEMU cannot load this file`
    : `${program} has no ${machine}, and cannot load this file`;
}

function describeContainer({ container, form, offset, compression }: Inspection): string {
  const what = form === 'mapped-ram' ? 'mapped-ram' : 'plain migration stream';
  const how = compression === undefined ? '' : `, compressed with ${compression}`;
  return `${container}, ${what}${how}${offset === 0 ? '' : `, stream at offset ${offset}`}`;
}

/** When, by whom and with what the VM was saved, and how it was started; what of it cannot be read is told as a problem. */
function describeManifest(value: unknown): [string, string][] {
  const manifest = value === null ? undefined : parseManifest(value);
  if (manifest === undefined)
    return [['saved', 'not by mapram, or converted since: when and how is not in the file']];
  if ('problem' in manifest) return [['manifest', `cannot be read: ${manifest.problem}`]];
  const { createdAt, mapram, qemu, runState, id, launch, checksums, signature } = manifest;
  const by = launch?.user ?? (launch?.uid === undefined ? undefined : `uid ${launch.uid}`);
  const what = qemu === undefined ? 'the builtin machine' : `QEMU ${qemu}`;
  return [
    [
      'saved',
      `${createdAt}, ${what}${by === undefined ? '' : ` of ${by}`}, by mapram ${mapram}; the VM was ${runState}`,
    ],
    ['identity', id],
    [
      'checksums',
      checksums === undefined
        ? 'none'
        : `${checksums.algorithm}, one for ${formatSize(checksums.chunkBytes)}`,
    ],
    [
      'signature',
      signature === undefined ? 'not signed' : `by ${signature.publicKey}; "mapram verify" checks it`,
    ],
    ...(launch === undefined ? [] : describeLaunch(launch)),
  ];
}

function describeLaunch({
  program,
  arguments: args,
  workingDirectory,
  disks,
  omitted,
}: LaunchRecord): [string, string][] {
  return [
    ['started as', quoteForShell([program, ...args])],
    ['started in', workingDirectory],
    ...disks.map(({ path, size, format, readOnly }): [string, string] => [
      'disk',
      `${path}, ${format ?? 'format not given'}, ${formatSize(size)}${readOnly ? ', read-only' : ''}`,
    ]),
    ...omitted.map(({ name, place }): [string, string] => ['left out', `${name} (${place})`]),
  ];
}

function describeBlocks({ blocks, pageSize, form, guestRegions }: Inspection): string {
  const share = (part: number, whole: number) => `${whole === 0 ? 0 : Math.round((part / whole) * 100)} %`;
  const columns: [title: string, align: '<' | '>', cell: (block: InspectedBlock) => string][] = [
    ['block', '<', ({ idstr }) => idstr],
    ['size', '>', ({ usedLength }) => formatSize(usedLength)],
  ];
  if (form === 'mapped-ram') {
    columns.push(
      ['bitmap at', '>', ({ bitmapOffset = 0 }) => hex(bitmapOffset)],
      ['pages at', '>', ({ pagesOffset = 0 }) => hex(pagesOffset)],
    );
  }
  columns.push(
    ['written', '>', ({ normalPages }) => formatSize(normalPages * pageSize)],
    ['', '>', ({ normalPages, usedLength }) => share(normalPages, usedLength / pageSize)],
  );
  if (form === 'mapped-ram') {
    const size = (pages: number | undefined) => (pages === undefined ? '?' : formatSize(pages * pageSize));
    columns.push(['stale', '>', ({ stalePages }) => size(stalePages)]);
  }
  columns.push(['guest address', '<', ({ idstr }) => describeRegions(guestRegions, idstr)]);
  return table(
    [columns.map(([title]) => title), ...blocks.map((block) => columns.map(([, , cell]) => cell(block)))],
    columns.map(([, align]) => align).join(''),
  );
}

function describeRegions(regions: readonly GuestRegion[], idstr: string): string {
  return regions
    .filter((region) => region.idstr === idstr)
    .map(({ start, length }) => `${hex(start)}-${hex(start + length - 1)}`)
    .join(', ');
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
