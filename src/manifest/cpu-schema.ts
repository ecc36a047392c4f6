import * as v from 'valibot';
import type { CpuIdentity } from '../launch/cpu-identity.js';

const name = v.pipe(v.string(), v.maxLength(255));
const word = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(0xffff_ffff));

/** A CPU as a file of unknown origin may claim it. */
export const CpuSchema = v.strictObject({
  type: name,
  words: v.exactOptional(v.record(name, word)),
  features: v.exactOptional(v.pipe(v.array(name), v.maxLength(10_000))),
}) satisfies v.GenericSchema<CpuIdentity>;
