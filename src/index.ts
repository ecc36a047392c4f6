/** mapram: save, load and inspect QEMU virtual machines through mapped-ram files with direct I/O. */
export { MapramError, type MapramErrorCode } from './errors.js';
export { BuiltinGuest } from './guest/builtin/builtin-guest.js';
export type { BuiltinGuestOptions } from './guest/builtin/options.js';
export { type DirectIoProbe, probeDirectIo } from './io/direct-io-probe.js';
export type { DirectIoMode } from './io/open-direct.js';
export { checkImage, type ImageProblem } from './mapped-ram/check-image.js';
export { type ImageBlock, type ImageOpenOptions, MappedRamImage } from './mapped-ram/image.js';
export { QmpClient, type QmpConnectOptions, type QmpExecuteOptions } from './monitor/qmp-client.js';
export { QmpError } from './monitor/qmp-error.js';
export { effectiveDirectIo } from './options/direct-io.js';
export type { MigrationCapabilities } from './options/migration-capabilities.js';
export type { MigrationParameters } from './options/migration-parameters.js';
export type { ProgressEvent } from './progress.js';
export { type RestoreOptions, type RestoreResult, restore } from './snapshot/restore.js';
export { type SaveOptions, type SaveResult, save } from './snapshot/save.js';
export { type DecodedDevice, type DecodedField, decodeDevice } from './stream/device-decoder.js';
