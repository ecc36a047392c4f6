/** The part of WebAssembly's JavaScript interface that is used; Node's types leave it to the DOM library. */
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer };
};

/** Unit in which such memories are reserved, and so their alignment. */
const WASM_PAGE = 65_536;

/**
 * A zeroed buffer whose address is a multiple of the page size, as O_DIRECT asks for.
 *
 * WebAssembly memories are reserved by mmap and therefore page-aligned in V8, where ordinary Buffers never are. No
 * specification promises it, so `probeDirectIo` does its trial I/O with one of these.
 */
export function alignedBuffer(length: number): Buffer {
  const memory = new WebAssembly.Memory({ initial: Math.max(1, Math.ceil(length / WASM_PAGE)) });
  return Buffer.from(memory.buffer, 0, length);
}
