import { Option } from 'commander';
import { defined } from '../../defined.js';
import { LOAD_METHODS, type RestoreResult, restore as restoreVm } from '../../snapshot/restore/restore.js';
import { CPU_OPTION, DISKS_OPTION, memoryCheckOption } from '../allowances.js';
import { assertVmAndFile } from '../argument-order.js';
import {
  channelsOption,
  directIoOption,
  parseOffset,
  parseVmAddress,
  VM_HELP,
  type VmAddress,
} from '../arguments.js';
import type { CommandOf } from '../command.js';
import { formatDuration, plural, properties } from '../format.js';
import { openVm } from '../vm-argument.js';
import { CLOCK_OPTION, clockLines } from './resume.js';

export const restore: CommandOf<'restore'> = {
  name: 'restore',
  summary: 'load a saved file into a VM that waits with -incoming defer',
  declare(command) {
    command
      .argument('<file>', 'a mapped-ram file of mapram, QEMU or libvirt, or PLACE/NAME in a store')
      .argument('<vm>', VM_HELP, parseVmAddress)
      .addOption(directIoOption())
      .addOption(channelsOption())
      .addOption(
        new Option(
          '--method <method>',
          'shared: mapram reads the file into shared RAM; native: QEMU 9.0+ reads it; stream: mapram plays it to any QEMU',
        )
          .choices(['auto', ...LOAD_METHODS])
          .default('auto'),
      )
      .option('--no-multifd', 'stream: one connection instead of --channels of them')
      .option('--cont', 'let the VM run afterwards, also when it was saved paused')
      .option('--verify', 'hold all memory against its checksums before the VM sees any of it')
      .option(
        '--require-signature <key>',
        'the file must be signed; the public key, an Ed25519 key in PEM form (implies --verify)',
      )
      .option(...CLOCK_OPTION)
      .option(DISKS_OPTION, "replace UEFI variables and persistent memory in the VM's files")
      .option(...CPU_OPTION)
      .addOption(memoryCheckOption())
      .option('--offset <bytes>', 'where in the file the stream starts', parseOffset)
      .addHelpText(
        'after',
        `
Examples:
  qemu-system-x86_64 … -incoming defer -qmp unix:/run/new.qmp,server=on,wait=off
  mapram restore vm.mapram /run/new.qmp --cont`,
      );
  },
  async run(
    [file, address],
    {
      directIo,
      channels,
      method,
      multifd,
      cont,
      setClock,
      allowChangedDisks,
      allowCpuMismatch,
      checkMemory,
      verify,
      requireSignature,
      offset,
    },
    { signal, progress, warn },
  ) {
    assertVmAndFile(address as VmAddress, String(file), 'restore FILE VM');
    await using opened = await openVm(address as VmAddress, 'incoming');
    const result = await restoreVm({
      file: String(file),
      vm: opened.vm,
      directIo,
      ...defined({ channels }),
      method,
      ...defined({ multifd: multifd ? undefined : false }),
      cont: cont === true,
      setClock: setClock === true,
      allowChangedDisks: allowChangedDisks === true,
      allowCpuMismatch: allowCpuMismatch === true,
      checkMemory,
      verify: verify === true,
      ...defined({ requireSignature, offset }),
      signal,
      onProgress: progress,
      onWarning: warn,
    });
    return { fields: result, text: describe(result) };
  },
};

function describe(result: RestoreResult): string {
  return properties([
    ['loaded', `${result.file}, ${plural(result.normalPages, 'page')}`],
    ['method', `${result.method}: ${result.methodReason}`],
    ['direct I/O', `${result.directIo ? 'on' : 'off'}: ${result.directIoReason}`],
    ['channels', String(result.channels)],
    ['time', formatDuration(result.totalTimeMs)],
    ['VM', result.runState],
    ...(result.checkedPages === undefined
      ? []
      : [['memory', `as in the file in ${plural(result.checkedPages, 'page')} that were compared`] as const]),
    ...clockLines(result),
  ]);
}
