/**
 * What every command writes with `--json`: the compiler checks commands against these types, and `npm run schemas` makes the JSON
 * Schemas in `schemas/` of them, which `mapram schema` prints.
 */
import type { Comparison } from '../analysis/compare.js';
import type { DirectoryCheck } from '../doctor/directory-check.js';
import type { Finding } from '../doctor/finding.js';
import type { HostCheck } from '../doctor/host-check.js';
import type { LeftBehind } from '../doctor/left-behind.js';
import type { BrokenQemu, QemuInstallation } from '../doctor/qemu-installations.js';
import type { MapramErrorCode } from '../errors.js';
import type { TrustedKey } from '../manifest/trusted-keys.js';
import type { ProgressEvent } from '../progress.js';
import type { Conversion } from '../snapshot/convert/convert-target.js';
import type { DeviceHeader, InspectedBlock, InspectedFile } from '../snapshot/inspect/inspect.js';
import type { ControlledVm, EndedVm } from '../snapshot/lifecycle/control-vms.js';
import type { ListedVm } from '../snapshot/lifecycle/list-vms.js';
import type { RemoveResult } from '../snapshot/lifecycle/remove-snapshot.js';
import type { RestoreResult } from '../snapshot/restore/restore.js';
import type { ResumePlan } from '../snapshot/resume/resume.js';
import type { ResumedVmFacts } from '../snapshot/resume/resumed-vm.js';
import type { SaveResult } from '../snapshot/save/save.js';
import type { StoreListing } from '../snapshot/store/list-snapshots.js';
import type { InitializedStore, VerifyStoredResult } from '../snapshot/store/manage-store.js';
import type { PullResult } from '../snapshot/store/pull-snapshot.js';
import type { PushResult } from '../snapshot/store/push-snapshot.js';
import type { SaveToStoreResult } from '../snapshot/store/save-to-store.js';
import type { VerifiedFile, VerifyResult } from '../snapshot/verify/verify.js';
import type { PruneResult } from '../store/prune.js';
import type { Bytes, Count, Milliseconds } from '../units.js';

/** The members of each command's last line, beside `result`. Several where options ask for different things. */
export interface Results {
  save: SaveResult | SaveToStoreResult;
  restore: RestoreResult;
  resume: ResumeReport | ResumePlan;
  fork: ForkReport;
  ps: { vms: readonly ListedVm[] };
  stop: { vms: readonly ControlledVm[] };
  cont: { vms: readonly ControlledVm[] };
  quit: { vms: readonly EndedVm[] };
  remove: RemoveResult;
  inspect: InspectReport;
  verify: VerifyResult;
  diff: DiffReport;
  convert: ConvertReport;
  'store-init': InitializedStore;
  'store-push': PushResult;
  'store-pull': PullResult;
  'store-list': StoreListing;
  'store-verify': VerifyStoredResult;
  'store-remove': { removed: string };
  'store-prune': PruneResult;
  demo: DemoReport;
  mount: MountReport;
  // biome-ignore lint/complexity/noBannedTypes: it has no member
  ui: {};
  monitor: Listeners;
  doctor: DoctorReport;
  trust: TrustReport;
  completion: { shell: string; script: string };
  schema: { schema: Record<string, unknown> };
}

/** What commands that serve write once they can be used, beside `ready`. */
export interface ReadyReports {
  ui: { url: string };
  mount: MountReport;
  monitor: Listeners;
  resume: StartedVms;
  fork: StartedClones;
}

/** What all commands may write any number of times, beside `progress` and `warning`, and after a failure. */
export interface CommonLines {
  progress: ProgressEvent;
  warning: { message: string };
  error: Failure;
}

/** What a failed command reports. */
export interface Failure {
  readonly code: MapramErrorCode | 'INTERNAL';
  /** One line. */
  readonly message: string;
  readonly path?: string;
  readonly offset?: Bytes;
}

export interface StartedVms {
  vms: ResumedVmFacts[];
  totalTimeMs: Milliseconds;
}

export interface ResumeReport extends StartedVms {
  recordedBytes?: Bytes;
  prefetchedBytes?: Bytes;
  verification?: VerifiedFile;
}

export interface StartedClones extends StartedVms {
  directory: string;
}

export interface ForkReport extends StartedClones {
  verification?: VerifiedFile;
}

export interface InspectReport extends InspectedFile {
  devices: DeviceReport[];
  /** The picture of the memory, with `--map`. */
  map?: Record<string, unknown>;
  /** Path of the page that was written. */
  html?: string;
}

export interface DeviceReport extends DeviceHeader {
  /** The values of its fields by name. Integers may have 64 bits: read them with a parser that keeps all digits. */
  fields?: Record<string, unknown>;
  /** Its bytes, where the file does not describe its fields or they were not asked for, in hexadecimal. */
  data?: Uint8Array;
}

export interface DiffReport extends Comparison {
  before: string;
  after: string;
  problems: string[];
  /** Path of the page that was written. */
  html?: string;
}

export interface ConvertReport extends Conversion {
  input: string;
  output: string;
  to: string;
}

export interface DemoReport {
  directory: string;
  save: SaveResult;
  /**
   * What of the file is in the page cache after the save, 0 to 1.
   *
   * @minimum 0
   * @maximum 1
   */
  cachedShare: number;
  inspect: { blocks: readonly InspectedBlock[]; normalPages: Count; complete: boolean };
  restore: RestoreResult;
  ticks: { saved: Count; loaded: Count; afterwards: Count };
  memoryChecksum: string;
  totalTimeMs: Milliseconds;
}

/** A snapshot that is mounted. */
export interface MountReport {
  /** `PLACE/NAME@ID`. */
  address: string;
  directory: string;
  /** Paths relative to it. */
  files: readonly string[];
}

/** Where a monitor serves. */
export interface Listeners {
  qmp?: string;
  hmp?: string;
  metrics?: string;
}

export interface DoctorReport {
  host: HostCheck;
  qemus: readonly (QemuInstallation | BrokenQemu)[];
  directory: DirectoryCheck;
  leftBehind: Omit<LeftBehind, 'findings'>;
  findings: readonly Finding[];
}

export interface TrustReport {
  keys: readonly TrustedKey[];
  added?: TrustedKey;
  removed?: TrustedKey;
}
