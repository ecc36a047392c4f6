/** mapram: save, load and inspect QEMU virtual machines through mapped-ram files with direct I/O. */
export { MapramError, type MapramErrorCode } from './errors.js';
export { BuiltinGuest } from './guest/builtin/builtin-guest.js';
export type { BuiltinGuestOptions } from './guest/builtin/options.js';
export {
  type CompareOptions,
  type Comparison,
  compareSavedVms,
} from './inside/compare.js';
export { equalChunksOf } from './inside/equal-chunks.js';
export { type MemoryPicture, pictureOf } from './inside/memory-picture.js';
export { type OpenOptions, openSavedVm } from './inside/open-saved-vm.js';
export type { SavedBlock, SavedVm } from './inside/saved-vm.js';
export { type DirectIoProbe, probeDirectIo } from './io/direct-io-probe.js';
export type { DirectIoMode } from './io/open-direct.js';
export { checkImage, type ImageProblem } from './mapped-ram/check-image.js';
export { type ImageBlock, type ImageOpenOptions, MappedRamImage } from './mapped-ram/image.js';
export { BuiltinBackend, type BuiltinBackendOptions } from './monitor/builtin-backend.js';
export { Monitor, type MonitorEvent, type MonitorSetup } from './monitor/monitor.js';
export { type FrontOptions, monitorInFrontOf } from './monitor/open-monitor.js';
export { QmpClient, type QmpConnectOptions, type QmpExecuteOptions } from './monitor/qmp-client.js';
export { QmpError } from './monitor/qmp-error.js';
export { effectiveDirectIo } from './options/direct-io.js';
export type { MigrationCapabilities } from './options/migration-capabilities.js';
export type { MigrationParameters } from './options/migration-parameters.js';
export { type ProfileName, type QemuProfile, qemuProfile } from './options/qemu-profile.js';
export type { ProgressEvent } from './progress.js';
export type { CloneOptions } from './snapshot/clone-factory.js';
export { ClonePool, type ClonePoolHealth, type ClonePoolOptions } from './snapshot/clone-pool.js';
export { ForkedVms, type ForkOptions, fork } from './snapshot/fork.js';
export { type RestoreOptions, type RestoreResult, restore } from './snapshot/restore.js';
export { planResume, type ResumeOptions, type ResumePlan, resume } from './snapshot/resume.js';
export { ResumedVm, type ResumedVmFacts } from './snapshot/resumed-vm.js';
export { type SaveOptions, type SaveResult, save } from './snapshot/save.js';
export { type DecodedDevice, type DecodedField, decodeDevice } from './stream/device-decoder.js';
