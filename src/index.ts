/** mapram: save, load, resume, fork and inspect QEMU virtual machines through mapped-ram files with direct I/O. */
export { MapramError, type MapramErrorCode } from './errors.js';
