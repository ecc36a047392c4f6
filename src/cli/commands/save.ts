import { Option } from 'commander';
import { formatSize } from '../../size.js';
import { DEFAULT_CHANNELS, type SaveResult, save as saveVm } from '../../snapshot/save.js';
import {
  channelsOption,
  directIoOption,
  parseOffset,
  parseVmAddress,
  VM_HELP,
  type VmAddress,
} from '../arguments.js';
import type { CommandDescription } from '../command.js';
import { formatDuration, properties } from '../format.js';
import { openVm } from '../vm-argument.js';

export const save: CommandDescription = {
  name: 'save',
  summary: "save a VM's memory and device state into a file",
  declare(command) {
    command
      .argument('<vm>', VM_HELP, parseVmAddress)
      .argument('<file>', 'the file to write; it appears when it is complete and on disk')
      .addOption(directIoOption())
      .addOption(channelsOption())
      .addOption(
        new Option(
          '--method <method>',
          'shared: mapram copies the RAM of a stopped VM; native: QEMU 9.1+ writes the file',
        )
          .choices(['auto', 'native', 'shared'])
          .default('auto'),
      )
      .option('--live', 'let the VM run on while its RAM is saved')
      .addOption(
        new Option('--then <what>', 'what becomes of the VM (default: the state it was in)').choices([
          'cont',
          'stop',
          'quit',
        ]),
      )
      .option('--force', 'replace an existing file, once the new one is complete')
      .option('--offset <bytes>', 'start the stream at this place of the file', parseOffset)
      .addHelpText(
        'after',
        `
Examples:
  mapram save /run/vm.qmp /var/lib/vm/vm.mapram
  mapram save --direct-io on --channels 4 --then stop /run/vm.qmp vm.mapram
  mapram save builtin:size=256M demo.mapram`,
      );
  },
  async run(
    [address, file],
    { directIo, channels, method, live, then, force, offset },
    { signal, progress, warn },
  ) {
    await using opened = await openVm(address as VmAddress, 'running');
    const result = await saveVm({
      vm: opened.vm,
      file: String(file),
      directIo,
      channels: channels ?? DEFAULT_CHANNELS,
      method,
      live: live === true,
      force: force === true,
      ...(then === undefined ? {} : { then }),
      ...(offset === undefined ? {} : { offset }),
      signal,
      onProgress: progress,
      onWarning: warn,
    });
    return { fields: result, text: describe(result) };
  },
};

function describe(result: SaveResult): string {
  const { normalBytes, duplicatePages, ramBytes, totalTimeMs } = result;
  const rate = totalTimeMs > 0 ? ` (${formatSize(Math.round((normalBytes / totalTimeMs) * 1000))}/s)` : '';
  return properties([
    ['saved', `${result.file}, ${formatSize(result.allocatedBytes)} on disk`],
    ['method', `${result.method}: ${result.methodReason}`],
    ['direct I/O', `${result.directIo ? 'on' : 'off'}: ${result.directIoReason}`],
    ['channels', String(result.channels)],
    [
      'memory',
      `${formatSize(ramBytes)}, of it ${formatSize(normalBytes)} written, ${duplicatePages} zero pages left out`,
    ],
    ['time', `${formatDuration(totalTimeMs)}${rate}, guest stopped for ${formatDuration(result.downtimeMs)}`],
    ['VM', result.runState],
  ]);
}
