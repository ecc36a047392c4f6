import { errorReason, MapramError } from '../../errors.js';
import { native } from '../native.js';

/** Coarser than any device wants memory to be aligned, the units of `probeDirectIo` included. */
const ALIGNMENT = 65_536;

/**
 * A zeroed buffer whose address is a multiple of 64 KiB, as O_DIRECT asks for of less. V8 never moves the memory of an ArrayBuffer,
 * so that its address stays. Where there is no O_DIRECT (no Linux) the address is any.
 *
 * @throws MapramError `IO` where the memory cannot be had, as under a limit on the address space
 */
export function alignedBuffer(length: number): Buffer {
  if (process.platform !== 'linux') return Buffer.alloc(length);
  const memory = reserve(length + ALIGNMENT);
  const past = Number(native().address(new Uint8Array(memory)) % BigInt(ALIGNMENT));
  return Buffer.from(memory, past === 0 ? 0 : ALIGNMENT - past, length);
}

function reserve(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch (cause) {
    throw new MapramError(
      'IO',
      `reserving ${bytes} bytes of memory: ${errorReason(cause)}; raise the limit on the address space (ulimit -v), or use fewer channels`,
      { cause },
    );
  }
}
