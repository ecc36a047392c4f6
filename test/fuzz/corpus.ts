/**
 * Inputs that are kept in the repository: `corpus/TARGET/NAME.bin`. Those that `npm run soak -- corpus` found are named by
 * their checksum; it may drop them again. Those that were trouble once have names of words, and stay.
 *
 * Nothing here may load `src`: what runs before coverage is taken is not seen by it.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { FuzzTarget } from './targets.js';

export const corpusFolder = path.resolve(import.meta.dirname, '..', '..', '..', 'test', 'fuzz', 'corpus');

type Named = Pick<FuzzTarget, 'name'>;

export interface CorpusFile {
  name: string;
  bytes: Uint8Array;
  /** Whether it was found by growing the corpus. */
  grown: boolean;
}

export function folderNameOf({ name }: Named): string {
  return name.replaceAll(' ', '-');
}

export function corpusFilesOf(target: Named): CorpusFile[] {
  const folder = path.join(corpusFolder, folderNameOf(target));
  if (!existsSync(folder)) return [];
  // In the same order everywhere, so that a seed gives the same inputs everywhere.
  const names = readdirSync(folder).sort();
  return names.map((name) => ({
    name,
    bytes: new Uint8Array(readFileSync(path.join(folder, name))),
    grown: /^[0-9a-f]{12}\.bin$/.test(name),
  }));
}

/** The corpus of a target, without what has not the length that its reader wants. */
export function corpusOf(target: FuzzTarget): Uint8Array[] {
  return corpusFilesOf(target)
    .map(({ bytes }) => bytes)
    .filter((bytes) => fits(target, bytes));
}

export function fits({ seeds, fixedLength }: FuzzTarget, bytes: Uint8Array): boolean {
  return fixedLength !== true || seeds.some((seed) => seed.length === bytes.length);
}

export function nameOf(bytes: Uint8Array): string {
  return `${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}.bin`;
}

/** Puts these in the place of all that was found by growing. */
export function storeGrown(target: Named, inputs: readonly Uint8Array[]): void {
  const folder = path.join(corpusFolder, folderNameOf(target));
  mkdirSync(folder, { recursive: true });
  for (const { name, grown } of corpusFilesOf(target)) if (grown) rmSync(path.join(folder, name));
  for (const bytes of inputs) writeFileSync(path.join(folder, nameOf(bytes)), bytes);
}

/** Leaves an input where the tests read it, and fail until what it shows is mended. Tells its file. */
export function storeTrouble(target: Named, bytes: Uint8Array): string {
  const folder = path.join(corpusFolder, folderNameOf(target));
  mkdirSync(folder, { recursive: true });
  const name = `trouble-${nameOf(bytes)}`;
  writeFileSync(path.join(folder, name), bytes);
  return path.join(folderNameOf(target), name);
}
