/** mapram: save, load and inspect QEMU virtual machines through mapped-ram files with direct I/O. */

export { type CompareOptions, type Comparison, compareSavedVms } from './analysis/compare.js';
export { type DeviceValue, deviceValues } from './analysis/device-values.js';
export { equalChunksOf } from './analysis/equal-chunks.js';
export { type MemoryPicture, pictureOf } from './analysis/memory-picture.js';
export { type OpenOptions, openSavedVm } from './analysis/open-saved-vm.js';
export type { SavedBlock, SavedVm } from './analysis/saved-vm.js';
export type { StreamCompression } from './channels/socket/payload-decoder.js';
export { MapramError, type MapramErrorCode, type MapramErrorDetails } from './errors.js';
export { BuiltinGuest } from './guest/builtin/builtin-guest.js';
export type { BuiltinGuestOptions } from './guest/builtin/options.js';
export { type DirectIoProbe, probeDirectIo } from './io/file/direct-io-probe.js';
export type { DirectIoMode } from './io/file/open-direct.js';
export type { Manifest } from './manifest/manifest.js';
export { distrustKey, type TrustedKey, trustedKeys, trustKey } from './manifest/trusted-keys.js';
export { PageBitmap, type PageRun } from './mapped-ram/bitmap.js';
export { type ByteSource, FileSource, MemorySource } from './mapped-ram/byte-source.js';
export { checkImage, type ImageProblem } from './mapped-ram/check-image.js';
export { GuestMap, type GuestRegion } from './mapped-ram/guest-map.js';
export { readGuestMemory } from './mapped-ram/guest-memory.js';
export { type ImageBlock, type ImageOpenOptions, MappedRamImage } from './mapped-ram/image.js';
export { ImageWriter, type ImageWriterBlock, type ImageWriterOptions } from './mapped-ram/image-writer.js';
export { type BlockLayout, type BlockShape, layoutBlocks } from './mapped-ram/layout.js';
export type { LiveLimits } from './migration/live-limits.js';
export type { MigrationBackend } from './monitor/backend.js';
export { BuiltinBackend, type BuiltinBackendOptions } from './monitor/builtin-backend.js';
export { Monitor, type MonitorEvent, type MonitorSetup } from './monitor/monitor.js';
export { type FrontOptions, monitorInFrontOf } from './monitor/open-monitor.js';
export { effectiveDirectIo } from './options/direct-io.js';
export {
  type CapabilityName,
  defaultCapabilities,
  MIGRATION_CAPABILITIES,
  type MigrationCapabilities,
} from './options/migration-capabilities.js';
export { MigrationOptions } from './options/migration-options.js';
export {
  defaultParameters,
  MIGRATION_PARAMETERS,
  type MigrationParameters,
  type ParameterName,
} from './options/migration-parameters.js';
export { type ProfileName, type QemuProfile, qemuProfile } from './options/qemu-profile.js';
export type { ChannelProgress, ProgressEvent } from './progress.js';
export {
  QmpClient,
  type QmpConnectOptions,
  type QmpEventsOptions,
  type QmpExecuteOptions,
  type QmpPatience,
} from './qmp/qmp-client.js';
export { QmpError, type QmpErrorClass } from './qmp/qmp-error.js';
export { convertToElf } from './snapshot/convert/convert-elf.js';
export { convertToMappedRam } from './snapshot/convert/convert-mapped-ram.js';
export { convertToRaw } from './snapshot/convert/convert-raw.js';
export { convertToStream } from './snapshot/convert/convert-stream.js';
export type {
  Conversion,
  ConvertedFile,
  ConvertOptions,
  ConvertTarget,
} from './snapshot/convert/convert-target.js';
export {
  type InspectedBlock,
  type InspectedDevice,
  type Inspection,
  type InspectOptions,
  inspect,
} from './snapshot/inspect/inspect.js';
export { type RestoreOptions, type RestoreResult, restore } from './snapshot/restore/restore.js';
export type { CloneOptions } from './snapshot/resume/clone-factory.js';
export { ClonePool, type ClonePoolHealth, type ClonePoolOptions } from './snapshot/resume/clone-pool.js';
export { ForkedVms, type ForkOptions, fork } from './snapshot/resume/fork.js';
export type { LaunchOptions } from './snapshot/resume/launch-plan.js';
export type { LaunchOrigin, LaunchTrust } from './snapshot/resume/recorded-launch.js';
export { planResume, type ResumeOptions, type ResumePlan, resume } from './snapshot/resume/resume.js';
export { ResumedVm, type ResumedVmFacts } from './snapshot/resume/resumed-vm.js';
export { type SaveOptions, type SaveResult, save } from './snapshot/save/save.js';
export type { SaveMethod } from './snapshot/save/save-method.js';
export { type ListedSnapshot, listSnapshots, type StoreListing } from './snapshot/store/list-snapshots.js';
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
export { openSaved } from './snapshot/store/open-saved.js';
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
export type { StreamConfiguration } from './stream/configuration.js';
export {
  type DecodedDevice,
  type DecodedField,
  type DecodedStruct,
  type DecodedValue,
  decodeDevice,
} from './stream/device-decoder.js';
export {
  type DeviceSection,
  type SplitOptions,
  type StreamTail,
  splitTail,
} from './stream/device-sections.js';
export { decodeLibvirtHeader, type LibvirtHeader } from './stream/libvirt-header.js';
export type { StreamEvent } from './stream/stream-event.js';
export { StreamParser, type StreamParserOptions } from './stream/stream-parser.js';
export { readStream, readStreamSync } from './stream/stream-reader.js';
export { type SectionOpening, StreamWriter } from './stream/stream-writer.js';
export { type DeviceDescription, parseVmDescription, type VmDescription } from './stream/vmdescription.js';
