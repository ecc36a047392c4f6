import { formatSize } from '../../size.js';
import { deviceValues } from '../../snapshot/device-values.js';
import { type Inspection, inspect as inspectImage } from '../../snapshot/inspect.js';
import { parseOffset } from '../arguments.js';
import type { CommandDescription } from '../command.js';
import { deviceTree } from '../device-tree.js';
import { plural, properties, table } from '../format.js';

export const inspect: CommandDescription = {
  name: 'inspect',
  summary: 'what is inside a saved VM: machine, RAM blocks, pages, device state',
  declare(command) {
    command
      .argument('<file>', 'a mapped-ram file of mapram, QEMU or libvirt')
      .option('--devices', 'show every field of the device state')
      .option('--offset <bytes>', 'where the stream starts, for a file saved with offset=', parseOffset);
  },
  async run([file], { devices, offset }, { signal, progress }) {
    const inspection = await inspectImage({
      file: String(file),
      ...(offset === undefined ? {} : { offset }),
      signal,
      onProgress: progress,
    });
    return {
      fields: jsonFields(inspection, devices === true),
      text: describe(inspection, devices === true),
      ...(inspection.problems.length === 0
        ? {}
        : { failed: `inspecting ${inspection.file}: ${inspection.problems.join('; ')}` }),
    };
  },
};

function jsonFields({ devices, ...rest }: Inspection, withState: boolean): object {
  return {
    ...rest,
    devices: devices.map(({ state, ...device }) =>
      withState && state !== undefined ? { ...device, fields: deviceValues(state) } : device,
    ),
  };
}

function describe(inspection: Inspection, withState: boolean): string {
  const { file, container, offset, machine, capabilities, pageSize, complete, devices, manifest } =
    inspection;
  const deviceBytes = devices.reduce((sum, device) => sum + device.length, 0);
  const parts = [
    properties([
      [
        'file',
        `${file}, ${formatSize(inspection.fileBytes)}, ${formatSize(inspection.allocatedBytes)} on the disk`,
      ],
      ['container', `${container}${offset === 0 ? '' : `, stream at offset ${offset}`}`],
      ['machine', machine],
      ['capabilities', capabilities.join(', ')],
      ['complete', complete ? 'yes' : 'NO: the save did not finish, or the file was cut short'],
      [
        'RAM',
        `${formatSize(inspection.ramBytes)} in ${plural(inspection.blocks.length, 'block')}, pages of ${pageSize} bytes, ${formatSize(inspection.normalPages * pageSize)} of them written`,
      ],
      ['devices', `${plural(devices.length, 'section')}, ${formatSize(deviceBytes)}`],
      ['manifest', describeManifest(manifest)],
      ...inspection.problems.map((problem) => ['problem', problem] as const),
    ]),
    '',
    describeBlocks(inspection),
  ];
  if (withState) for (const device of devices) parts.push('', deviceTree(device));
  return parts.join('\n');
}

function describeManifest(manifest: unknown): string {
  if (manifest === null) return 'none (not saved by mapram)';
  return typeof manifest === 'object' ? Object.keys(manifest).join(', ') : String(manifest);
}

function describeBlocks({ blocks, pageSize }: Inspection): string {
  const hex = (offset: number) => `0x${offset.toString(16)}`;
  const share = (part: number, whole: number) => `${whole === 0 ? 0 : Math.round((part / whole) * 100)} %`;
  return table(
    [
      ['block', 'size', 'bitmap at', 'pages at', 'written', '', 'stale'],
      ...blocks.map(({ idstr, usedLength, bitmapOffset, pagesOffset, normalPages, stalePages }) => [
        idstr,
        formatSize(usedLength),
        hex(bitmapOffset),
        hex(pagesOffset),
        String(normalPages),
        share(normalPages, usedLength / pageSize),
        String(stalePages),
      ]),
    ],
    '<>>>>>>',
  );
}
