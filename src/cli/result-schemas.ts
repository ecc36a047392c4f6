/**
 * The shapes of what every command writes with `--json`: the one source of the JSON Schemas that `mapram schema` prints. The
 * compiler holds each against the type of the command's result; tests hold them against real output.
 */
import * as v from 'valibot';
import type { Comparison } from '../analysis/compare.js';
import type { BlockComparison, DifferentRange } from '../analysis/compare-memory.js';
import type { DirectoryCheck, SpeedTrial } from '../doctor/directory-check.js';
import type { Finding } from '../doctor/finding.js';
import type { HostCheck } from '../doctor/host-check.js';
import type { Mount } from '../doctor/mounts.js';
import type { QemuInstallation } from '../doctor/qemu-installations.js';
import type { DirectIoProbe } from '../io/file/direct-io-probe.js';
import type { TrustedKey } from '../manifest/trusted-keys.js';
import type { GuestRegion } from '../mapped-ram/guest-map.js';
import type { ChannelProgress, ProgressEvent } from '../progress.js';
import type { ConvertedFile } from '../snapshot/convert/convert-target.js';
import type { InspectedBlock, InspectedDevice, Inspection } from '../snapshot/inspect/inspect.js';
import type { ControlledVm, EndedVm } from '../snapshot/lifecycle/control-vms.js';
import type { ListedVm } from '../snapshot/lifecycle/list-vms.js';
import type { RemoveResult } from '../snapshot/lifecycle/remove-snapshot.js';
import { LOAD_METHODS, type RestoreResult } from '../snapshot/restore/restore.js';
import type { LaunchTrust } from '../snapshot/resume/recorded-launch.js';
import type { ResumePlan } from '../snapshot/resume/resume.js';
import type { ResumedVmFacts } from '../snapshot/resume/resumed-vm.js';
import type { SaveResult } from '../snapshot/save/save.js';
import { SAVE_METHODS } from '../snapshot/save/save-method.js';
import type { ListedSnapshot, StoreListing } from '../snapshot/store/list-snapshots.js';
import type { InitializedStore, VerifyStoredResult } from '../snapshot/store/manage-store.js';
import type { PulledFile, PullResult } from '../snapshot/store/pull-snapshot.js';
import type { PushResult } from '../snapshot/store/push-snapshot.js';
import type { VerifiedFile, VerifyProblem, VerifyResult } from '../snapshot/verify/verify.js';
import type { PruneResult } from '../store/prune.js';

/** An object with a member for each of `T`, no more and no less. */
type EntriesOf<T> = { [Key in keyof T]-?: v.GenericSchema<unknown, Exclude<T[Key], undefined>> };

function shape<T>() {
  return <const Entries extends EntriesOf<T>>(entries: Entries) => v.strictObject(entries);
}

const text = v.string();
const flag = v.boolean();
const texts = v.array(text);
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const bytes = v.pipe(count, v.description('bytes'));
const rate = v.pipe(v.number(), v.minValue(0), v.description('bytes a second'));
const ms = v.pipe(v.number(), v.minValue(0), v.description('milliseconds'));
/** A value of a device. Integers may have 64 bits: read them with a parser that keeps all digits. */
const deviceValue = v.union([flag, v.number(), text, v.null()]);

const saveResult = shape<SaveResult>()({
  file: text,
  method: v.picklist([...SAVE_METHODS, 'builtin']),
  methodReason: text,
  directIo: v.pipe(flag, v.description('whether O_DIRECT was really used')),
  directIoReason: text,
  channels: count,
  channelsReason: text,
  ramBytes: bytes,
  normalPages: count,
  duplicatePages: v.pipe(count, v.description('zero pages, which take no place')),
  normalBytes: bytes,
  fileBytes: bytes,
  allocatedBytes: bytes,
  totalTimeMs: ms,
  downtimeMs: ms,
  synced: flag,
  id: text,
  checksums: v.picklist(['xxh64', 'xxh64-pages', 'sha256-128', 'none']),
  signed: flag,
  qemuVersion: v.exactOptional(text),
  base: v.exactOptional(v.strictObject({ file: text, changedPages: count, shared: flag })),
  runState: text,
});

const restoreResult = shape<RestoreResult>()({
  file: text,
  method: v.picklist([...LOAD_METHODS, 'builtin']),
  methodReason: text,
  totalTimeMs: ms,
  directIo: flag,
  directIoReason: text,
  channels: count,
  normalPages: count,
  runState: text,
  savedAt: v.exactOptional(text),
  clockSet: v.exactOptional(flag),
  checkedPages: v.exactOptional(count),
});

const vm = shape<ResumedVmFacts>()({
  pid: count,
  qmp: text,
  loadTimeMs: ms,
  totalTimeMs: ms,
  runState: text,
  savedAt: v.exactOptional(text),
  clockSet: v.exactOptional(flag),
  checkedPages: v.exactOptional(count),
  macs: v.exactOptional(texts),
});

const listedVm = shape<ListedVm>()({
  qmp: text,
  pid: v.exactOptional(count),
  file: v.exactOptional(v.pipe(text, v.description('what it was started from'))),
  savingTo: v.exactOptional(text),
  detached: v.exactOptional(v.pipe(flag, v.description('whether it outlives the mapram that started it'))),
  made: v.exactOptional(v.pipe(text, v.description('a folder or socket that goes with it'))),
  ageMs: v.exactOptional(ms),
  privateBytes: v.exactOptional(v.pipe(count, v.description('bytes that ending it would free'))),
  runState: v.exactOptional(v.pipe(text, v.description('absent while its monitor is in use'))),
});

const controlledVm = shape<ControlledVm>()({ qmp: text, pid: v.exactOptional(count), runState: text });

const endedVm = shape<EndedVm>()({
  qmp: text,
  pid: v.exactOptional(count),
  by: v.picklist(['quit', 'SIGTERM', 'SIGKILL']),
  removed: v.exactOptional(text),
  kept: v.exactOptional(text),
});

const block = shape<InspectedBlock>()({
  idstr: text,
  usedLength: bytes,
  pagesOffset: v.exactOptional(bytes),
  bitmapOffset: v.exactOptional(bytes),
  normalPages: count,
  stalePages: v.exactOptional(count),
});

const device = v.strictObject({
  ...shape<Omit<InspectedDevice, 'state' | 'data'>>()({
    idstr: text,
    instanceId: count,
    version: count,
    length: bytes,
    position: bytes,
  }).entries,
  fields: v.exactOptional(v.record(text, v.unknown())),
  data: v.exactOptional(v.pipe(text, v.description('hexadecimal'))),
});

const inspection = v.strictObject({
  ...shape<Omit<Inspection, 'devices'>>()({
    file: text,
    container: v.picklist(['qemu', 'libvirt']),
    form: v.picklist(['mapped-ram', 'stream']),
    offset: bytes,
    compression: v.exactOptional(text),
    domainXml: v.exactOptional(text),
    machine: text,
    capabilities: texts,
    pageSize: bytes,
    complete: flag,
    fileBytes: bytes,
    allocatedBytes: bytes,
    ramBytes: bytes,
    guestRegions: v.array(
      shape<GuestRegion>()({ idstr: text, start: bytes, length: bytes, blockOffset: bytes }),
    ),
    unplaced: texts,
    normalPages: count,
    rounds: count,
    blocks: v.array(block),
    manifest: v.unknown(),
    problems: texts,
  }).entries,
  devices: v.array(device),
  map: v.exactOptional(v.record(text, v.unknown())),
  html: v.exactOptional(text),
});

const verifyProblem = shape<VerifyProblem>()({
  kind: v.picklist([
    'incomplete',
    'header',
    'alignment',
    'bitmap',
    'truncated',
    'device',
    'trailing',
    'manifest',
    'contents',
    'unreadable',
    'signature',
  ]),
  where: text,
  message: text,
  offset: v.exactOptional(bytes),
  guestAddress: v.exactOptional(count),
  length: v.exactOptional(bytes),
});

const verifiedFile = shape<VerifiedFile>()({
  ok: flag,
  problems: v.array(verifyProblem),
  notes: texts,
  checkedBytes: bytes,
  signature: v.picklist(['none', 'invalid', 'valid', 'trusted']),
  totalTimeMs: ms,
});

const verifyResult = shape<VerifyResult>()({
  ...verifiedFile.entries,
  file: text,
  id: v.exactOptional(text),
  createdAt: v.exactOptional(text),
  directIo: flag,
  channels: count,
});

const range = shape<DifferentRange>()({
  offset: bytes,
  length: bytes,
  guestAddress: v.exactOptional(count),
});

const comparison = v.strictObject({
  before: text,
  after: text,
  ...shape<Omit<Comparison, 'devices'>>()({
    equal: flag,
    machine: v.strictObject({ before: text, after: text }),
    complete: v.strictObject({ before: flag, after: flag }),
    differentPages: count,
    differentBytes: bytes,
    blocks: v.array(
      shape<BlockComparison>()({
        idstr: text,
        status: v.picklist(['equal', 'different', 'only-before', 'only-after']),
        usedLengthBefore: v.exactOptional(bytes),
        usedLengthAfter: v.exactOptional(bytes),
        differentPages: count,
        differentBytes: bytes,
        ranges: v.array(range),
      }),
    ),
    readBytes: bytes,
    unreadBytes: bytes,
  }).entries,
  devices: v.array(
    v.strictObject({
      idstr: text,
      instanceId: count,
      status: v.picklist(['different', 'only-before', 'only-after']),
      changes: v.array(
        v.strictObject({
          path: text,
          type: text,
          before: v.exactOptional(deviceValue),
          after: v.exactOptional(deviceValue),
        }),
      ),
    }),
  ),
  problems: texts,
});

const conversion = v.strictObject({
  input: text,
  output: text,
  to: text,
  files: v.array(
    shape<ConvertedFile>()({
      file: text,
      fileBytes: bytes,
      allocatedBytes: bytes,
      block: v.exactOptional(text),
    }),
  ),
  notes: texts,
});

const directIoProbe = shape<DirectIoProbe>()({
  supported: flag,
  memoryAlignment: bytes,
  offsetAlignment: bytes,
  how: v.picklist(['statx', 'probe']),
  reason: v.exactOptional(text),
});

const diagnosis = v.strictObject({
  host: shape<HostCheck>()({
    kernel: text,
    architecture: text,
    cpus: count,
    memoryTotal: bytes,
    memoryAvailable: bytes,
    sharedMemoryFree: v.exactOptional(bytes),
    node: text,
    native: v.strictObject({ works: flag, library: text, problem: v.exactOptional(text) }),
    kvm: v.picklist(['usable', 'denied', 'absent']),
  }),
  qemus: v.array(
    v.union([
      shape<QemuInstallation>()({
        path: text,
        aliases: texts,
        version: text,
        package: text,
        kvm: flag,
        mappedRam: flag,
        directIo: flag,
        multifd: flag,
        ignoreShared: flag,
      }),
      v.strictObject({ path: text, aliases: texts, problem: text }),
    ]),
  ),
  directory: shape<DirectoryCheck>()({
    path: text,
    mount: v.exactOptional(shape<Mount>()({ mountPoint: text, type: text, source: text })),
    freeBytes: bytes,
    directIo: directIoProbe,
    preallocation: flag,
    speed: v.exactOptional(shape<SpeedTrial>()({ bytes, direct: flag, writeRate: rate, readRate: rate })),
  }),
  leftBehind: v.strictObject({
    parts: v.array(v.looseObject({ removed: flag })),
    vms: v.array(v.strictObject({ address: text, file: text, rescued: flag })),
    orphans: v.array(v.strictObject({ file: text, processes: v.array(count), ended: flag })),
    ended: v.array(v.strictObject({ path: text, removed: flag })),
  }),
  findings: v.array(
    shape<Finding>()({ level: v.picklist(['good', 'note', 'bad']), subject: text, message: text }),
  ),
});

const demonstration = v.strictObject({
  directory: text,
  save: saveResult,
  cachedShare: v.pipe(v.number(), v.minValue(0)),
  inspect: v.strictObject({ blocks: v.array(block), normalPages: count, complete: flag }),
  restore: restoreResult,
  ticks: v.strictObject({ saved: count, loaded: count, afterwards: count }),
  memoryChecksum: text,
  totalTimeMs: ms,
});

const trustedKey = shape<TrustedKey>()({ publicKey: text, name: text });

const resumed = { vms: v.array(vm), totalTimeMs: ms };
const forked = { ...resumed, directory: text };

/** Where a monitor serves. */
const monitored = { qmp: v.exactOptional(text), hmp: v.exactOptional(text), metrics: v.exactOptional(text) };

const pushed = shape<PushResult>()({
  address: v.pipe(text, v.description('what pulls exactly this snapshot')),
  name: text,
  id: text,
  parent: v.exactOptional(text),
  fileBytes: bytes,
  dataBytes: v.pipe(bytes, v.description('what of the files is not zero')),
  sharedBytes: v.pipe(bytes, v.description('what of that was in the store already')),
  unreadBytes: v.pipe(bytes, v.description('what of that was not even read')),
  storedBytes: v.pipe(bytes, v.description('what was written to the store')),
  reusedBytes: v.pipe(bytes, v.description('what an earlier push, which was broken off, had written')),
  totalTimeMs: ms,
});

const role = v.picklist(['state', 'disk']);

const pulled = shape<PullResult>()({
  address: text,
  name: text,
  id: text,
  files: v.array(shape<PulledFile>()({ file: text, role, fileBytes: bytes, allocatedBytes: bytes })),
  fetchedBytes: bytes,
  totalTimeMs: ms,
});

const listing = shape<StoreListing>()({
  place: text,
  store: text,
  encrypted: flag,
  snapshots: v.array(
    shape<ListedSnapshot>()({
      name: text,
      id: text,
      pushedAt: text,
      fileBytes: bytes,
      dataBytes: bytes,
      packBytes: v.pipe(bytes, v.description('of its packs, which it may share with others')),
      parent: v.exactOptional(text),
      files: v.exactOptional(v.array(v.strictObject({ role: text, name: text, bytes }))),
      machine: v.exactOptional(text),
      savedAt: v.exactOptional(text),
    }),
  ),
  problems: texts,
});

const pruned = shape<PruneResult>()({
  dryRun: flag,
  removed: texts,
  kept: count,
  removedPacks: count,
  freedBytes: bytes,
  byPlace: v.pipe(flag, v.description('whether the place frees packs by itself')),
  keptPacks: count,
  keptBytes: bytes,
});

const verifiedSnapshot = shape<VerifyStoredResult>()({
  address: text,
  name: text,
  id: text,
  ok: flag,
  problems: texts,
  checkedBytes: bytes,
  packs: count,
  totalTimeMs: ms,
});

/** The members of a command's last line, beside `result`. Several where options ask for different things. */
const RESULTS = {
  save: [saveResult, v.strictObject({ ...saveResult.entries, pushed })],
  restore: [restoreResult],
  resume: [
    v.strictObject({
      ...resumed,
      recordedBytes: v.exactOptional(bytes),
      prefetchedBytes: v.exactOptional(bytes),
      verification: v.exactOptional(verifiedFile),
    }),
    shape<ResumePlan>()({
      command: texts,
      workingDirectory: text,
      qmp: text,
      trust: shape<LaunchTrust>()({
        origin: v.picklist(['given', 'own', 'signed', 'unknown', 'foreign']),
        reason: v.exactOptional(text),
      }),
      fingerprint: text,
      warnings: texts,
    }),
  ],
  fork: [v.strictObject({ ...forked, verification: v.exactOptional(verifiedFile) })],
  ps: [v.strictObject({ vms: v.array(listedVm) })],
  stop: [v.strictObject({ vms: v.array(controlledVm) })],
  cont: [v.strictObject({ vms: v.array(controlledVm) })],
  quit: [v.strictObject({ vms: v.array(endedVm) })],
  remove: [shape<RemoveResult>()({ removed: texts, freedBytes: bytes })],
  inspect: [inspection],
  verify: [verifyResult],
  diff: [comparison],
  convert: [conversion],
  'store-init': [shape<InitializedStore>()({ place: text, store: text, encrypted: flag })],
  'store-push': [pushed],
  'store-pull': [pulled],
  'store-list': [listing],
  'store-verify': [verifiedSnapshot],
  'store-remove': [v.strictObject({ removed: text })],
  'store-prune': [pruned],
  demo: [demonstration],
  ui: [v.strictObject({})],
  monitor: [v.strictObject(monitored)],
  doctor: [diagnosis],
  trust: [
    v.strictObject({
      keys: v.array(trustedKey),
      added: v.exactOptional(trustedKey),
      removed: v.exactOptional(trustedKey),
    }),
  ],
  completion: [v.strictObject({ shell: text, script: text })],
  schema: [v.strictObject({ schema: v.record(text, v.unknown()) })],
} as const;

export type DescribedCommand = keyof typeof RESULTS;
export const DESCRIBED_COMMANDS = Object.keys(RESULTS) as DescribedCommand[];

const progress = shape<ProgressEvent>()({
  phase: text,
  bytes,
  totalBytes: bytes,
  pages: count,
  rate,
  remainingMs: v.exactOptional(ms),
  channels: v.exactOptional(v.array(shape<ChannelProgress>()({ id: count, bytes, rate }))),
});

const failure = v.strictObject({
  code: text,
  message: text,
  path: v.exactOptional(text),
  offset: v.exactOptional(bytes),
});

/** What a command says once what it serves can be used, beside `ready`. */
const READY: Readonly<Partial<Record<DescribedCommand, v.ObjectEntries>>> = {
  ui: { url: text },
  monitor: monitored,
  resume: resumed,
  fork: forked,
};

function readySchemas(name: DescribedCommand): v.GenericSchema[] {
  const entries = READY[name];
  if (entries === undefined) return [];
  const ready = v.strictObject({ ready: v.literal(name), ...entries });
  return [v.pipe(ready, v.description('at most once, as soon as it can be used'))];
}

/** Any line that a command writes to stdout with `--json`. */
export function lineSchema(name: DescribedCommand): v.GenericSchema {
  const results = RESULTS[name].map(({ entries }) => v.strictObject({ result: v.literal(name), ...entries }));
  return v.union([
    v.pipe(
      v.strictObject({ progress: v.literal(name), ...progress.entries }),
      v.description('any number of times'),
    ),
    v.pipe(
      v.strictObject({ warning: v.literal(name), message: text }),
      v.description('any number of times; on stderr as well'),
    ),
    ...readySchemas(name),
    ...results.map((result) => v.pipe(result, v.description('the last line'))),
    v.pipe(
      v.strictObject({ result: v.literal(name), error: failure }),
      v.description('the last line after a failure'),
    ),
  ]);
}
