/** What the page may ask for: the shapes of all request bodies. */

import * as v from 'valibot';
import { STREAM_COMPRESSIONS } from '../channels/socket/payload-decoder.js';
import { SAVE_METHODS } from '../migration/save-method.js';
import { MAX_SOCKET_PATH_BYTES } from '../qmp/socket-address.js';
import { MEMORY_CHECKS } from '../snapshot/checks/memory-after-load.js';
import { LOAD_METHODS } from '../snapshot/restore/restore.js';
import { RequestError } from './reply.js';

const directIo = v.optional(v.picklist(['auto', 'on', 'off']), 'auto');
const channels = v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(255)));
const flag = v.optional(v.boolean(), false);
const checkMemory = v.optional(v.picklist(MEMORY_CHECKS), 'sample');
/** Milliseconds; a week at most, which timers can wait for. */
const milliseconds = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(7 * 24 * 3600 * 1000));
/** A key on this host. */
const keyPath = v.pipe(v.string(), v.minLength(1), v.maxLength(4096), v.excludes('\0'));

const SaveRequest = v.strictObject({
  kind: v.literal('save'),
  vm: v.string(),
  directory: v.string(),
  name: v.string(),
  directIo,
  channels,
  method: v.optional(v.picklist(['auto', ...SAVE_METHODS]), 'auto'),
  live: flag,
  /** Of a live save. */
  downtimeLimitMs: v.optional(milliseconds),
  maxTimeMs: v.optional(milliseconds),
  onTimeout: v.optional(v.picklist(['stop', 'cancel'])),
  autoConverge: v.optional(v.boolean()),
  background: flag,
  multifd: v.optional(v.boolean()),
  compression: v.optional(v.picklist(STREAM_COMPRESSIONS)),
  checksums: v.optional(v.boolean(), true),
  sign: v.optional(keyPath),
  /** Absent: the VM is brought back to the state it was in. */
  afterwards: v.optional(v.picklist(['cont', 'stop', 'quit'])),
  force: flag,
});

const RestoreRequest = v.strictObject({
  kind: v.literal('restore'),
  file: v.string(),
  /** A VM of the list that waits, or `builtin` for a new builtin guest. */
  vm: v.string(),
  directIo,
  channels,
  method: v.optional(v.picklist(['auto', ...LOAD_METHODS]), 'auto'),
  verify: flag,
  requireSignature: v.optional(keyPath),
  setClock: flag,
  cont: flag,
  checkMemory,
  allowCpuMismatch: flag,
  allowChangedDisks: flag,
});

const VerifyRequest = v.strictObject({
  kind: v.literal('verify'),
  file: v.string(),
  contents: v.optional(v.boolean(), true),
  requireSignature: v.optional(keyPath),
  directIo,
  channels,
});

/** What resuming and forking have in common. */
const launch = {
  file: v.string(),
  /** The fingerprint of the plan that the page has shown; nothing else is started. */
  confirmed: v.string(),
  paused: flag,
  cont: flag,
  verify: flag,
  onDamage: v.optional(v.picklist(['stop', 'continue'])),
  checkMemory,
  requireSignature: v.optional(keyPath),
  /** Checks that the user switches off. */
  trust: flag,
  allowChangedDisks: flag,
  allowCpuMismatch: flag,
};

const ResumeRequest = v.strictObject({
  kind: v.literal('resume'),
  ...launch,
  /** Where the monitor is to listen; where it did when the VM was saved by default. */
  qmp: v.optional(v.pipe(v.string(), v.startsWith('/'), v.maxBytes(MAX_SOCKET_PATH_BYTES))),
  setClock: flag,
});

const ForkRequest = v.strictObject({
  kind: v.literal('fork'),
  ...launch,
  count: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64)),
  /** A directory of the list, and the name of a new folder there for the clones; temporary ones by default. */
  directory: v.optional(v.string()),
  name: v.optional(v.string()),
  newMacs: flag,
});

const DiffRequest = v.strictObject({ kind: v.literal('diff'), file: v.string(), other: v.string() });

const ConvertRequest = v.strictObject({
  kind: v.literal('convert'),
  file: v.string(),
  to: v.picklist(['mapped-ram', 'stream', 'raw', 'elf']),
  directory: v.string(),
  name: v.string(),
  force: flag,
});

export const OperationRequest = v.variant('kind', [
  SaveRequest,
  RestoreRequest,
  VerifyRequest,
  ResumeRequest,
  ForkRequest,
  DiffRequest,
  ConvertRequest,
]);

/** A request as it was checked, with the kind of operation that it asks for. */
export type RequestOf<Kind extends string> = Extract<
  v.InferOutput<typeof OperationRequest>,
  { readonly kind: Kind }
>;

/** The operations that this version has. */
export const OPERATION_KINDS = OperationRequest.options.map(({ entries }) => entries.kind.literal);

export const MonitorRequest = v.strictObject({
  vm: v.string(),
  parameters: v.optional(v.record(v.string(), v.union([v.string(), v.boolean()]))),
  capabilities: v.optional(v.record(v.string(), v.boolean())),
});

export const RunStateRequest = v.strictObject({
  vm: v.string(),
  action: v.picklist(['cont', 'stop', 'quit']),
});

export const DirectoryRequest = v.strictObject({ directory: v.string() });

export const FileRequest = v.strictObject({ file: v.string() });

/** @throws RequestError 400 saying which member is wrong */
export function parseRequest<S extends v.GenericSchema>(schema: S, body: unknown): v.InferOutput<S> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new RequestError(400, 'the body is not an object');
  }
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const place = issue.path?.map(({ key }) => String(key)).join('.') ?? 'the body';
  throw new RequestError(400, `${place}: ${issue.message}`);
}
