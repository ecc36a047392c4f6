/** The golden files, see make.mjs and make-libvirt.mjs for what they are. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

const folder = path.resolve(import.meta.dirname, '..', '..', '..', 'test', 'golden');

/** What QEMU said about the VM that it saved. */
export interface Expected {
  version: string;
  /** Version of the libvirt that saved, if one did. */
  libvirt?: string;
  arguments: string[];
  capabilities: string[];
  /** Where in the file the stream starts. */
  offset: number;
  /** Absent where libvirt saved. */
  migration: { normal: number; duplicate: number };
  xbzrlePages?: number;
  ramBlocks: { idstr: string; usedLength: number }[];
  /** Of the first 640 KiB of guest memory; x86 only. */
  lowMemorySha256?: string;
  /** Lines of `info registers`. */
  registers: string[];
  /** Number of connections that QEMU made: the main channel and multifd channels. */
  streams: number;
}

/** Names of the golden files whose name contains `part`. */
export function goldenNames(part: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json') && name.includes(part))
    .map((name) => path.basename(name, '.json'))
    .sort();
}

export function expectedOf(name: string): Expected {
  return JSON.parse(readFileSync(path.join(folder, `${name}.json`), 'utf8')) as Expected;
}

/** The bytes of a golden file, or those of one of its multifd channels. */
export function goldenBytes(name: string, channel?: number): Uint8Array {
  const suffix = channel === undefined ? '' : `.channel-${channel}`;
  return new Uint8Array(brotliDecompressSync(readFileSync(path.join(folder, `${name}${suffix}.br`))));
}

/** A register such as EIP from `info registers`. */
export function register({ registers }: Expected, name: string): bigint {
  const [, digits] = new RegExp(`\\b${name}=([0-9a-f]+)`).exec(registers.join('\n')) ?? [];
  if (digits === undefined) throw new Error(`QEMU named no register ${name}`);
  return BigInt(`0x${digits}`);
}
