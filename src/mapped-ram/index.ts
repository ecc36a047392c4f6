/**
 * mapped-ram files at the level of the format: read, checked, written.
 *
 * @module mapram/mapped-ram
 */

export { type FileOffset, fileOffset, type GuestAddress, guestAddress } from '../branded.js';
export { PageBitmap, type PageRun } from './bitmap.js';
export { type ByteSource, FileSource, MemorySource } from './byte-source.js';
export { checkImage, type ImageProblem } from './check-image.js';
export { GuestMap, type GuestRegion } from './guest-map.js';
export { readGuestMemory } from './guest-memory.js';
export { type ImageBlock, type ImageOpenOptions, MappedRamImage } from './image.js';
export { ImageWriter, type ImageWriterBlock, type ImageWriterOptions } from './image-writer.js';
export { type BlockLayout, type BlockShape, layoutBlocks } from './layout.js';
