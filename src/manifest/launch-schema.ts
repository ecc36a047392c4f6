import * as v from 'valibot';
import type { LaunchRecord } from '../launch/launch-record.js';

const text = v.string();
const finite = v.pipe(v.number(), v.finite());

/** A launch record as a file of unknown origin may claim it: the right shape, nothing about its truth. */
export const LaunchSchema = v.strictObject({
  program: text,
  arguments: v.array(text),
  omitted: v.array(v.strictObject({ name: text, place: text })),
  plugged: v.exactOptional(v.array(text)),
  missing: v.exactOptional(v.array(text)),
  workingDirectory: text,
  disks: v.array(
    v.strictObject({
      path: text,
      size: finite,
      mtimeMs: finite,
      format: v.exactOptional(text),
      readOnly: v.boolean(),
    }),
  ),
  uid: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  user: v.exactOptional(text),
  hostId: v.exactOptional(text),
  mac: v.exactOptional(text),
}) satisfies v.GenericSchema<LaunchRecord>;
