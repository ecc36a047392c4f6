import { InvalidArgumentError, Option } from 'commander';
import { parseLibvirtAddress } from '../qmp/libvirt/libvirt-address.js';
import { parseSize } from '../size.js';

/** Which I/O the channels use: `auto` tries O_DIRECT and falls back with one warning, `on` insists on it. */
export type DirectIoChoice = 'auto' | 'on' | 'off';

/** QEMU's bound of `multifd-channels`. */
const MAX_CHANNELS = 255;

/** Where a VM is: the QMP socket of a QEMU, or the machine built into mapram. */
export type VmAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** As `parseLibvirtAddress` reads it. */
  | { readonly kind: 'libvirt'; readonly address: string }
  /** `options` is the text after `builtin:`. */
  | { readonly kind: 'builtin'; readonly options: string };

/** `--direct-io auto|on|off`. */
export function directIoOption(): Option {
  return new Option(
    '--direct-io <choice>',
    'bypass the page cache with O_DIRECT; auto falls back with a warning',
  )
    .choices(['auto', 'on', 'off'])
    .default('auto');
}

/** `--channels N`. Undefined where it was not given: each command has its own default. */
export function channelsOption(): Option {
  return new Option('--channels <n>', 'parallel channels, 1 to 255').argParser(parseChannels);
}

/** `--channels N|auto`, for commands that find a good number by themselves. */
export function tunedChannelsOption(): Option {
  return new Option('--channels <n>', 'parallel channels, 1 to 255, or auto: tries the disk')
    .argParser((text) => (text === 'auto' ? 'auto' : parseChannels(text)))
    .default('auto');
}

function parseChannels(text: string): number {
  const channels = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (channels < 1 || channels > MAX_CHANNELS) {
    throw new InvalidArgumentError(`Expected a whole number from 1 to ${MAX_CHANNELS}.`);
  }
  return channels;
}

/** An option that may be given several times: the values in order. */
export function parseAnother(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** A positive whole number of anything. */
export function parseCount(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count < 1) throw new InvalidArgumentError('Expected a whole number from 1.');
  return count;
}

/** `256M`, `1.5G`, `4096`: bytes. */
export function parseSizeArgument(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('Expected a size such as 4096, 256M or 1.5G.');
  return bytes;
}

/** A place in a file: a size, or bytes in hexadecimal. */
export function parseOffset(text: string): number {
  const bytes = /^0x[0-9a-f]{1,13}$/i.test(text) ? Number(text) : parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('Expected an offset such as 4660, 0x1234 or 64K.');
  return bytes;
}

/** `500ms`, `60s`, `2m`, or a number of ms: ms. */
export function parseDuration(text: string): number {
  const [, digits, unit = 'ms'] = /^(\d{1,9})(ms|s|m)?$/.exec(text) ?? [];
  const duration = Number(digits) * { ms: 1, s: 1000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
  if (!(duration > 0)) throw new InvalidArgumentError('Expected a time such as 500ms, 60s or 2m.');
  return duration;
}

/** The path of a Unix socket (`unix:PATH` too), `tcp:HOST:PORT` (an IPv6 address in brackets), `libvirt:DOMAIN` or `builtin[:…]`. */
export function parseVmAddress(text: string): VmAddress {
  if (text === 'builtin') return { kind: 'builtin', options: '' };
  if (text.startsWith('builtin:')) return { kind: 'builtin', options: text.slice('builtin:'.length) };
  if (text.startsWith('tcp:')) {
    const match = /^tcp:(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(text);
    const port = Number(match?.[3] ?? 0);
    if (match === null || port < 1 || port > 65_535) {
      throw new InvalidArgumentError('Expected tcp:HOST:PORT with a port from 1 to 65535.');
    }
    return { kind: 'tcp', host: match[1] ?? (match[2] || 'localhost'), port };
  }
  if (text.startsWith('libvirt:')) return { kind: 'libvirt', address: libvirtAddress(text) };
  const path = text.startsWith('unix:') ? text.slice('unix:'.length) : text;
  if (path === '')
    throw new InvalidArgumentError(
      'Expected the path of a QMP socket, tcp:HOST:PORT, libvirt:DOMAIN or builtin.',
    );
  return { kind: 'unix', path };
}

function libvirtAddress(text: string): string {
  try {
    parseLibvirtAddress(text);
    return text;
  } catch {
    throw new InvalidArgumentError('Expected libvirt:DOMAIN or libvirt:URI#DOMAIN.');
  }
}

/** What a `VM` argument takes, for help texts. */
export const VM_HELP = 'path of a QMP unix socket, tcp:HOST:PORT, libvirt:DOMAIN, or builtin[:size=256M,…]';
