/** What a `VM` argument of the command line becomes for the library: a monitor address, or a guest of this process. */
import { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import { parseBuiltinOptions } from '../guest/builtin/options.js';
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
  const vm = address.kind === 'tcp' ? `tcp:${address.host}:${address.port}` : address.path;
  return { vm, [Symbol.asyncDispose]: async () => {} };
}

export interface OpenedVm extends AsyncDisposable {
  vm: string | BuiltinGuest;
}
