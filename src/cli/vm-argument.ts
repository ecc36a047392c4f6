/** What a `VM` argument of the command line becomes for the library: a monitor address, or a guest of this process. */
import { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import { parseBuiltinOptions } from '../guest/builtin/options.js';
import { formatSocketAddress } from '../qmp/socket-address.js';
import type { VmAddress } from './arguments.js';

/** @param begin how a builtin guest comes up: running a workload, or waiting for a file to be loaded */
export async function openVm(address: VmAddress, begin: 'running' | 'incoming'): Promise<OpenedVm> {
  if (address.kind === 'builtin') {
    const guest = await BuiltinGuest.start({
      ...parseBuiltinOptions(address.options, begin === 'incoming'),
      begin,
    });
    return { vm: guest, [Symbol.asyncDispose]: () => guest[Symbol.asyncDispose]() };
  }
  const vm = monitorAddress(address);
  return { vm, [Symbol.asyncDispose]: async () => {} };
}

/** As `QmpClient.connect` takes it. */
export function monitorAddress(address: Exclude<VmAddress, { kind: 'builtin' }>): string {
  return address.kind === 'libvirt' ? address.address : formatSocketAddress(address);
}

export interface OpenedVm extends AsyncDisposable {
  vm: string | BuiltinGuest;
}
