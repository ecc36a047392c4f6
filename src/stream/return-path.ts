/**
 * The return path of a migration: what a destination sends back over the main channel, with the capability `return-path`.
 *
 * ```text
 * be16  type      1: SHUT, the destination has done
 * be16  length    of what follows: 4
 * be32  value     of SHUT: 0 if all is well, anything else if loading failed
 * ```
 *
 * The source waits for SHUT once it has sent everything. One that says that loading failed makes its migration fail, and from
 * QEMU 9.0 on the VM is then again in the state in which it was.
 */
const SHUT = 1;
const VALUE_BYTES = 4;

/** The destination has done. @param failed whether loading failed */
export function encodeShut(failed: boolean): Uint8Array {
  const message = new DataView(new ArrayBuffer(4 + VALUE_BYTES));
  message.setUint16(0, SHUT);
  message.setUint16(2, VALUE_BYTES);
  message.setUint32(4, failed ? 1 : 0);
  return new Uint8Array(message.buffer);
}

/** Whether a source's `error-desc` says that it was told so: `Sibling indicated error 1` in QEMU 10.0.2. */
export function isToldToFail(reason: string): boolean {
  return reason.includes('Sibling indicated error');
}
