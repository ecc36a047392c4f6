/**
 * The device section `globalstate`: the run state that a stream tells its destination to take up.
 *
 * ```text
 * be32       length of the name with its NUL
 * 100 bytes  name of the run state, NUL-padded        "running", "paused", …
 *            of which from QEMU 9.0 on, at 32: byte     whether the next one counts
 *                                      at 33: byte     whether the guest, though stopped, is asleep (S3)
 * ```
 *
 * QEMU records the state in which the guest was when the migration ended. A guest that was stopped only so that it could
 * be saved must not come up paused, so the state before that is put in its place.
 */
export const GLOBAL_STATE_SECTION = 'globalstate';

const NAME_BYTES = 100;

/** Of the two bytes about sleep, in the data. */
const SLEEP_POSITION = 4 + 32;

/** Data of the section, always of this length. */
export const GLOBAL_STATE_BYTES = 4 + NAME_BYTES;

/** The section's data for a run state. */
export function encodeGlobalState(runState: string): Uint8Array {
  const name = new TextEncoder().encode(runState);
  if (name.byteLength >= NAME_BYTES) throw new RangeError(`a run state of ${name.byteLength} bytes`);
  const bytes = new Uint8Array(GLOBAL_STATE_BYTES);
  new DataView(bytes.buffer).setUint32(0, name.byteLength + 1);
  bytes.set(name, 4);
  return bytes;
}

/** The run state in the section's data; undefined where the data is too short to hold one. */
export function decodeGlobalState(data: Uint8Array): string | undefined {
  if (data.byteLength < GLOBAL_STATE_BYTES) return undefined;
  const name = data.subarray(4, GLOBAL_STATE_BYTES);
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

/** Whether the guest is asleep (S3) in that state: `suspended`, or stopped while it was. */
export function isAsleep(data: Uint8Array): boolean {
  if (decodeGlobalState(data) === 'suspended') return true;
  return data[SLEEP_POSITION] === 1 && data[SLEEP_POSITION + 1] === 1;
}

/** The run state that a stream with these device sections tells its destination to take up; undefined where it leaves that open. */
export function savedRunState(sections: readonly { idstr: string; data: Uint8Array }[]): string | undefined {
  const section = sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
  return section && decodeGlobalState(section.data);
}

/** Whether QEMU lets a guest run as soon as it has loaded these device sections, unless it was started with `-S` or told to `stop`. */
export function runsOnceLoaded(sections: Parameters<typeof savedRunState>[0]): boolean {
  const runState = savedRunState(sections);
  return runState === undefined || runState === 'running';
}
