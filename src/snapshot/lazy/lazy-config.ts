/** What a server of a snapshot is told: JSON in a memfd that its guard passes on, so keys are in no file and in no list of processes. */
import { constants, readFileSync } from 'node:fs';
import * as v from 'valibot';
import { reopenFile } from '../../io/file/open-file.js';
import { writeFully } from '../../io/file/positional-io.js';
import { createMemfd } from '../../io/memory/memfd.js';
import { writeJson } from '../../json/json-writer.js';

/** Descriptors of the server's process. */
export const DEVICE_FD = 3;
export const CONFIG_FD = 4;

const ConfigSchema = v.object({
  place: v.string(),
  name: v.string(),
  id: v.string(),
  unlock: v.object({
    identities: v.optional(v.pipe(v.array(v.string()), v.readonly())),
    passphrase: v.optional(v.string()),
  }),
  /** Where its files lie once they are complete. */
  folder: v.string(),
  /** `all`: in the background, whatever VMs ask for first; `on-demand`: only what they ask for. */
  fetch: v.picklist(['all', 'on-demand']),
  /** Bytes a second of what is fetched in the background. */
  maxRate: v.exactOptional(v.number()),
  /** How long a store may be out of reach before the VMs are ended. */
  offlineTimeoutMs: v.number(),
});

export type LazyConfig = v.InferOutput<typeof ConfigSchema>;

/** @returns a descriptor, which the caller closes */
export function passConfig(config: LazyConfig): number {
  const memfd = createMemfd('mapram lazy server', 0);
  writeFully(memfd, Buffer.from(writeJson(config)), 0);
  return memfd;
}

export function receiveConfig(): LazyConfig {
  return v.parse(ConfigSchema, JSON.parse(readFileSync(reopenFile(CONFIG_FD, constants.O_RDONLY), 'utf8')));
}
