/** Addresses of stores and of snapshots in them. */
import path from 'node:path';
import { MapramError } from '../errors.js';
import { isSnapshotName, SNAPSHOT_ID } from './format.js';
import type { Place } from './place.js';

/** A snapshot in a store: `PLACE/NAME`, the newest of that name, or `PLACE/NAME@ID`. */
export interface SnapshotAddress {
  /** The address of the store. */
  readonly place: string;
  readonly name: string;
  readonly id?: string;
}

/** What addresses begin with, for help texts and errors. */
export const PLACE_HELP = 'dir:PATH, s3://BUCKET/PREFIX or oci://HOST/REPOSITORY';

const OPENERS: Readonly<Record<string, (address: string) => Promise<Place>>> = {
  'dir:': async (address) => {
    const { DirectoryPlace } = await import('./places/directory.js');
    const folder = address.slice('dir:'.length);
    if (folder === '') throw unusable(address, 'there is no path');
    return new DirectoryPlace(address, path.resolve(folder));
  },
  's3:': async (address) => (await import('./places/s3.js')).openS3(address),
  'oci:': async (address) => (await import('./places/oci.js')).openRegistry(address),
};

/** Whether this is the address of something in a store, and not the path of a file. */
export function isStoreAddress(text: string): boolean {
  return /^(?:dir:|s3:\/\/|oci:\/\/)/.test(text);
}

/** @throws MapramError `USAGE` for an address of no kind that there is */
export async function openPlace(address: string): Promise<Place> {
  const kind = /^(?:dir:|s3:(?=\/\/)|oci:(?=\/\/))/.exec(address)?.[0];
  const open = kind === undefined ? undefined : OPENERS[kind];
  if (open === undefined) throw unusable(address, `a store is ${PLACE_HELP}`);
  return await open(address.replace(/\/+$/, ''));
}

/** @throws MapramError `USAGE` */
export function parseSnapshotAddress(text: string): SnapshotAddress {
  const [, place = '', name = '', id] = /^(.*?)\/+([^/@]+)(?:@([^/@]*))?$/.exec(text) ?? [];
  if (!isStoreAddress(text) || !isStoreAddress(place))
    throw unusable(text, `a snapshot is called PLACE/NAME or PLACE/NAME@ID, where PLACE is ${PLACE_HELP}`);
  if (!isSnapshotName(name))
    throw unusable(
      text,
      'a name has up to 96 letters, digits, ".", "_" and "-", and begins with a letter, a digit or "_"',
    );
  if (id === undefined) return { place, name };
  if (!SNAPSHOT_ID.test(id)) throw unusable(text, `${id} is no ID; \`mapram store list\` shows them`);
  return { place, name, id };
}

export function unusable(address: string, why: string): MapramError {
  return new MapramError('USAGE', `opening ${address}: ${why}`, { path: address });
}
