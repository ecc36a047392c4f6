/**
 * Where a snapshot lies while it is fetched, in the cache of this host:
 *
 * ```text
 * $XDG_CACHE_HOME/mapram/STORE/NAME@ID          its files, once all of them are complete
 * $XDG_CACHE_HOME/mapram/STORE/NAME@ID.lock     locked by whoever pulls, or starts or ends a server
 * $XDG_CACHE_HOME/mapram/STORE/NAME@ID.lazy/
 *     files/FILE, files/disks/…                 what has arrived, sparse
 *     chunks/0, chunks/1, …                     which chunks have, of each file: src/store/chunk-map.ts
 *     mount/FILE, mount/disks/…                 the files as VMs see them, over FUSE
 *     status.json                               what the server is doing
 * ```
 *
 * When all is there, `files` becomes `NAME@ID`. VMs that have mapped files under `mount` keep them.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { writeJson } from '../../json/json-writer.js';

export const LAZY_SUFFIX = '.lazy';

export interface LazyLayout {
  readonly folder: string;
  readonly files: string;
  readonly chunks: string;
  readonly mount: string;
  readonly status: string;
}

/** @param folder of the complete snapshot: `…/NAME@ID` */
export function lazyLayout(folder: string): LazyLayout {
  const lazy = `${folder}${LAZY_SUFFIX}`;
  return {
    folder: lazy,
    files: path.join(lazy, 'files'),
    chunks: path.join(lazy, 'chunks'),
    mount: path.join(lazy, 'mount'),
    status: path.join(lazy, 'status.json'),
  };
}

/** The layout to which a file belongs that VMs see over FUSE; undefined for any other file. */
export function layoutOfLazyFile(file: string): LazyLayout | undefined {
  const mount = path.dirname(file);
  const lazy = path.dirname(mount);
  if (path.basename(mount) !== 'mount' || !/@\d{8}T\d{9}Z-[0-9a-f]{8}\.lazy$/.test(lazy)) return undefined;
  return lazyLayout(lazy.slice(0, -LAZY_SUFFIX.length));
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const StatusSchema = v.object({
  format: v.literal(1),
  /** Of the server. */
  pid: count,
  /** `offline`: the store cannot be reached, VMs may wait; `failed`: it was given up, the VMs were ended. */
  state: v.picklist(['fetching', 'on-demand', 'complete', 'offline', 'failed']),
  /** Compressed bytes that have come from the store. */
  fetchedBytes: count,
  /** Why it is offline or failed. */
  problem: v.exactOptional(v.string()),
});

export type LazyStatus = v.InferOutput<typeof StatusSchema>;

/** Undefined where there is none. */
export function readStatus({ status }: LazyLayout): LazyStatus | undefined {
  try {
    const found = v.safeParse(StatusSchema, JSON.parse(readFileSync(status, 'utf8')));
    return found.success ? found.output : undefined;
  } catch {
    return undefined;
  }
}

/** It appears whole. */
export function writeStatus({ status }: LazyLayout, what: Omit<LazyStatus, 'format' | 'pid'>): void {
  const draft = `${status}.${process.pid}`;
  writeFileSync(draft, writeJson({ format: 1, pid: process.pid, ...what }), { mode: 0o600 });
  renameSync(draft, status);
}
