/**
 * `store.json`: what kind of store this is.
 *
 * ```json
 * {"format":1,"store":"<UUID>","createdAt":"2026-11-29T16:57:13.123Z","chunkBytes":65536,
 *  "encryption":{"cipher":"aes-256-gcm","wrapped":"<base64 of an age file>","check":"<64 hex>"}}
 * ```
 */
import * as v from 'valibot';
import { MapramError } from '../errors.js';
import { CHUNK_BYTES, damaged, STORE_FORMAT } from './format.js';
import { MAXIMUM_WRAPPED } from './store-keys.js';

const ConfigSchema = v.strictObject({
  format: v.literal(STORE_FORMAT),
  /** Identity of the store, a random UUID; every root names it. */
  store: v.pipe(v.string(), v.uuid()),
  createdAt: v.pipe(v.string(), v.isoTimestamp()),
  chunkBytes: v.literal(CHUNK_BYTES),
  /** Absent in a store that is not encrypted. */
  encryption: v.exactOptional(
    v.strictObject({
      cipher: v.literal('aes-256-gcm'),
      wrapped: v.pipe(v.string(), v.maxLength(MAXIMUM_WRAPPED), v.base64()),
      check: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
    }),
  ),
});

export type StoreConfig = v.InferOutput<typeof ConfigSchema>;

/** @throws MapramError `FORMAT`, `UNSUPPORTED` for a newer format */
export function parseConfig(bytes: Buffer, where: string): StoreConfig {
  const value = parseJson(bytes, where) as { format?: unknown } | null;
  const format = value?.format;
  if (typeof format === 'number' && format > STORE_FORMAT) {
    throw new MapramError(
      'UNSUPPORTED',
      `reading ${where}: the store has format ${format}, this version of mapram reads ${STORE_FORMAT}`,
      { path: where },
    );
  }
  const result = v.safeParse(ConfigSchema, value);
  if (result.success) return result.output;
  throw damaged(where, `it is not the description of a store (${issueOf(result.issues[0])})`);
}

/** @throws MapramError `FORMAT` */
export function parseJson(bytes: Buffer, where: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw damaged(where, 'it is not JSON', cause);
  }
}

/** The member that is to blame. */
export function issueOf(issue: v.BaseIssue<unknown>): string {
  return issue.path?.map(({ key }) => String(key)).join('.') ?? 'it is no object';
}
