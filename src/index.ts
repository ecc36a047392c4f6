/**
 * Save, load and inspect QEMU virtual machines through mapped-ram files with direct I/O. Lower layers: `mapram/mapped-ram`,
 * `mapram/stream`, `mapram/monitor`, `mapram/qmp`, `mapram/options`.
 *
 * @module mapram
 */

export type { Comparison } from './analysis/compare.js';
export { type MemoryPicture, pictureOf } from './analysis/memory-picture.js';
export type { SavedBlock, SavedVm } from './analysis/saved-vm.js';
export type { StreamCompression } from './channels/socket/payload-decoder.js';
export { MapramError, type MapramErrorCode, type MapramErrorDetails } from './errors.js';
export { BuiltinGuest } from './guest/builtin/builtin-guest.js';
export type { BuiltinGuestOptions } from './guest/builtin/options.js';
export { type DirectIoProbe, probeDirectIo } from './io/file/direct-io-probe.js';
export type { DirectIoMode } from './io/file/open-direct.js';
export type { Manifest } from './manifest/manifest.js';
export { distrustKey, type TrustedKey, trustedKeys, trustKey } from './manifest/trusted-keys.js';
export { poolMetrics } from './metrics/pool-metrics.js';
export type { LiveLimits } from './migration/live-limits.js';
export type { SaveMethod } from './migration/save-method.js';
export type { ChannelProgress, OperationOptions, ProgressEvent } from './progress.js';
export type { MemoryCheck } from './snapshot/checks/memory-after-load.js';
export { type ConvertForm, type ConvertOptions, convert } from './snapshot/convert/convert.js';
export type { Conversion, ConvertedFile } from './snapshot/convert/convert-target.js';
export type { FileOptions } from './snapshot/files/file-options.js';
export { type DiffOptions, diff } from './snapshot/inspect/diff.js';
export {
  type InspectedBlock,
  type InspectedDevice,
  type Inspection,
  type InspectOptions,
  inspect,
} from './snapshot/inspect/inspect.js';
export {
  MountedSnapshot,
  type MountSnapshotOptions,
  mountSnapshot,
} from './snapshot/lazy/mount-snapshot.js';
export {
  type ControlledVm,
  type ControlOptions,
  continueVms,
  type EndedVm,
  type QuitOptions,
  quitVms,
  stopVms,
} from './snapshot/lifecycle/control-vms.js';
export { type ListedVm, type ListVmsOptions, listVms } from './snapshot/lifecycle/list-vms.js';
export {
  type RemoveOptions,
  type RemoveResult,
  removeSnapshot,
} from './snapshot/lifecycle/remove-snapshot.js';
export { type RestoreOptions, type RestoreResult, restore } from './snapshot/restore/restore.js';
export type { CloneOptions } from './snapshot/resume/clone-factory.js';
export { ClonePool, type ClonePoolHealth, type ClonePoolOptions } from './snapshot/resume/clone-pool.js';
export { ForkedVms, type ForkOptions, fork } from './snapshot/resume/fork.js';
export type { LaunchAllowances, LaunchOptions } from './snapshot/resume/launch-options.js';
export type { LaunchOrigin, LaunchTrust } from './snapshot/resume/recorded-launch.js';
export { planResume, type ResumeOptions, type ResumePlan, resume } from './snapshot/resume/resume.js';
export { ResumedVm, type ResumedVmFacts } from './snapshot/resume/resumed-vm.js';
export { type SaveOptions, type SaveResult, save } from './snapshot/save/save.js';
export {
  type ListedSnapshot,
  type ListSnapshotsOptions,
  listSnapshots,
  type StoreListing,
} from './snapshot/store/list-snapshots.js';
export type { LazyOptions } from './snapshot/store/local-copy.js';
export {
  type InitializedStore,
  type InitStoreOptions,
  initStore,
  type PruneStoreOptions,
  pruneStore,
  type RemoveStoredOptions,
  removeStored,
  type VerifyStoredOptions,
  type VerifyStoredResult,
  verifyStored,
} from './snapshot/store/manage-store.js';
export { type OpenSavedVmOptions, openSavedVm } from './snapshot/store/open-saved.js';
export {
  type PulledFile,
  type PullResult,
  type PullSnapshotOptions,
  pullSnapshot,
} from './snapshot/store/pull-snapshot.js';
export { type PushResult, type PushSnapshotOptions, pushSnapshot } from './snapshot/store/push-snapshot.js';
export {
  type SaveToStoreOptions,
  type SaveToStoreResult,
  saveToStore,
} from './snapshot/store/save-to-store.js';
export { unlockFromEnvironment } from './snapshot/store/unlock.js';
export type { BackgroundCheckOptions } from './snapshot/verify/background-check.js';
export {
  type VerifiedFile,
  type VerifyOptions,
  type VerifyProblem,
  type VerifyResult,
  verify,
} from './snapshot/verify/verify.js';
export type { PruneOptions, PruneResult } from './store/prune.js';
export type { PushedSnapshot } from './store/push.js';
export type { Retention } from './store/retention.js';
export type { StoreEncryption, StoreUnlock } from './store/store-keys.js';
export type { VerifiedSnapshot, VerifySnapshotOptions } from './store/verify-snapshot.js';
