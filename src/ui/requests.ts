/** What the page may ask for: the shapes of all request bodies, and the work that each operation means. */

import * as v from 'valibot';
import { defined } from '../defined.js';
import { BUILTIN_MACHINE, BUILTIN_ROM } from '../guest/builtin/builtin-guest.js';
import type { BuiltinGuestOptions } from '../guest/builtin/options.js';
import { MAX_SOCKET_PATH_BYTES } from '../qmp/socket-address.js';
import { restore } from '../snapshot/restore/restore.js';
import { fork } from '../snapshot/resume/fork.js';
import { assertMayRun } from '../snapshot/resume/recorded-launch.js';
import { planResume, type ResumePlan, resume } from '../snapshot/resume/resume.js';
import { save } from '../snapshot/save/save.js';
import { verify } from '../snapshot/verify/verify.js';
import type { Directories } from './directories.js';
import type { Work, WorkContext } from './operations.js';
import { RequestError } from './reply.js';
import type { SavedImage, SavedList } from './saved-list.js';
import type { VmList } from './vm-list.js';

/** What operations work on. */
export interface Things {
  readonly vms: VmList;
  readonly saved: SavedList;
  readonly directories: Directories;
}

const directIo = v.optional(v.picklist(['auto', 'on', 'off']), 'auto');
const channels = v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(255)), 4);
const flag = v.optional(v.boolean(), false);

/** The address that stands for a builtin guest yet to be made. */
const NEW_BUILTIN = 'builtin';

const SaveRequest = v.strictObject({
  kind: v.literal('save'),
  vm: v.string(),
  directory: v.string(),
  name: v.string(),
  directIo,
  channels,
  method: v.optional(v.picklist(['auto', 'native', 'shared']), 'auto'),
  live: flag,
  /** Absent: the VM is brought back to the state it was in. */
  afterwards: v.optional(v.picklist(['cont', 'stop', 'quit'])),
  force: flag,
});

const RestoreRequest = v.strictObject({
  kind: v.literal('restore'),
  file: v.string(),
  /** A VM of the list that waits, or `builtin` for a new builtin guest. */
  vm: v.string(),
  directIo,
  channels,
  cont: flag,
});

const VerifyRequest = v.strictObject({ kind: v.literal('verify'), file: v.string(), directIo, channels });

/** The fingerprint of the plan that the page has shown; nothing else is started. */
const confirmed = v.string();

/** Checks that the user switches off. */
const allowances = { trust: flag, allowChangedDisks: flag };

const ResumeRequest = v.strictObject({
  kind: v.literal('resume'),
  file: v.string(),
  confirmed,
  /** Where the monitor is to listen; where it did when the VM was saved by default. */
  qmp: v.optional(v.pipe(v.string(), v.startsWith('/'), v.maxBytes(MAX_SOCKET_PATH_BYTES))),
  paused: flag,
  ...allowances,
});

const ForkRequest = v.strictObject({
  kind: v.literal('fork'),
  file: v.string(),
  confirmed,
  count: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64)),
  /** A directory of the list, and the name of a new folder there for the clones; temporary ones by default. */
  directory: v.optional(v.string()),
  name: v.optional(v.string()),
  paused: flag,
  ...allowances,
});

const OperationRequest = v.variant('kind', [
  SaveRequest,
  RestoreRequest,
  VerifyRequest,
  ResumeRequest,
  ForkRequest,
]);

/** The operations that this version has. */
export const OPERATION_KINDS = OperationRequest.options.map(({ entries }) => entries.kind.literal);

export const MonitorRequest = v.strictObject({
  vm: v.string(),
  parameters: v.optional(v.record(v.string(), v.union([v.string(), v.boolean()]))),
  capabilities: v.optional(v.record(v.string(), v.boolean())),
});

export const RunStateRequest = v.strictObject({ vm: v.string(), action: v.picklist(['cont', 'stop']) });

export const DirectoryRequest = v.strictObject({ directory: v.string() });

/** @throws RequestError 400 saying which member is wrong */
export function parseRequest<S extends v.GenericSchema>(schema: S, body: unknown): v.InferOutput<S> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new RequestError(400, 'the body is not an object');
  }
  const parsed = v.safeParse(schema, body);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const place = issue.path?.map(({ key }) => String(key)).join('.') ?? 'the body';
  throw new RequestError(400, `${place}: ${issue.message}`);
}

/**
 * What a request to begin an operation means.
 *
 * @throws RequestError 400, and 404 for things that are not in the lists; MapramError `BUSY`
 */
export function workFor(body: unknown, things: Things): Work {
  const request = parseRequest(OperationRequest, body);
  switch (request.kind) {
    case 'save':
      return saveWork(request, things);
    case 'restore':
      return restoreWork(request, things);
    case 'verify':
      return verifyWork(request, things);
    case 'resume':
      return resumeWork(request, things);
    case 'fork':
      return forkWork(request, things);
  }
}

function saveWork(request: v.InferOutput<typeof SaveRequest>, { vms, directories }: Things): Work {
  const { kind, vm, directory, name, afterwards: then, ...options } = request;
  const file = directories.file(directory, name);
  vms.freeEntry(vm);
  return {
    kind,
    title: `Save ${vm} to ${file}`,
    vm,
    file,
    directory,
    disk: 'write',
    run: (context) =>
      withVm(vms, vm, context, async () => {
        const result = await save({
          vm: vms.target(vm),
          file,
          ...options,
          ...defined({ afterwards: then }),
          ...callbacks(context),
        });
        return { result };
      }),
  };
}

function restoreWork(
  request: v.InferOutput<typeof RestoreRequest>,
  { vms, saved, directories }: Things,
): Work {
  const { kind, vm, file, ...options } = request;
  const entry = saved.entry(file);
  if (vm !== NEW_BUILTIN) vms.freeEntry(vm);
  const { image } = entry;
  if (vm === NEW_BUILTIN && image?.machine !== BUILTIN_MACHINE) {
    throw new RequestError(400, `${file} was not saved from a builtin guest`);
  }
  const about = { kind, file, ...ofDirectory(directories, file), disk: 'read' } as const;
  const load = async (address: string, context: WorkContext) =>
    await withVm(vms, address, context, async () => ({
      result: await restore({ vm: vms.target(address), file, ...options, ...callbacks(context) }),
    }));
  if (vm !== NEW_BUILTIN) {
    return { ...about, title: `Restore ${file} into ${vm}`, vm, run: (context) => load(vm, context) };
  }
  return {
    ...about,
    title: `Restore ${file} into a new builtin guest`,
    async run(context) {
      const address = await vms.startBuiltin(sameMemory(image), 'incoming');
      try {
        return await load(address, context);
      } catch (error) {
        await vms.removeBuiltin(address);
        throw error;
      }
    },
  };
}

/** Options of a builtin guest whose RAM is as large as the saved one. */
function sameMemory(image: SavedImage | undefined): BuiltinGuestOptions {
  const ram = (image?.blocks ?? []).filter(({ idstr }) => idstr !== BUILTIN_ROM);
  return { size: ram.reduce((sum, { usedLength }) => sum + usedLength, 0), blocks: ram.length };
}

function verifyWork(request: v.InferOutput<typeof VerifyRequest>, { saved, directories }: Things): Work {
  const { kind, file, ...options } = request;
  saved.entry(file);
  return {
    kind,
    title: `Verify ${file}`,
    file,
    ...ofDirectory(directories, file),
    disk: 'read',
    async run(context) {
      const result = await verify({ file, ...options, ...callbacks(context) });
      const { ok, problems } = result;
      return {
        result,
        ...defined({
          verdict: ok ? undefined : problems.map(({ where, message }) => `${where}: ${message}`).join('\n'),
        }),
      };
    },
  };
}

function resumeWork(request: v.InferOutput<typeof ResumeRequest>, { vms, saved }: Things): Work {
  const { kind, file, confirmed, trust, qmp, ...options } = request;
  saved.entry(file);
  return {
    kind,
    title: `Resume ${file}`,
    file,
    async run({ signal, onWarning }) {
      await assertConfirmed(file, confirmed, trust);
      const vm = await resume({
        file,
        trust: confirmed,
        ...options,
        ...defined({ qmp }),
        signal,
        onWarning,
      });
      // It is not to end with the page.
      await vm.detach();
      vms.watch(vm.facts.qmp);
      return { result: vm.facts };
    },
  };
}

function forkWork(request: v.InferOutput<typeof ForkRequest>, { vms, saved, directories }: Things): Work {
  const { kind, file, confirmed, trust, directory, name, ...options } = request;
  saved.entry(file);
  const folder = directory === undefined ? undefined : directories.file(directory, name ?? '');
  return {
    kind,
    title: `Fork ${file} into ${options.count}`,
    file,
    async run({ signal, onWarning }) {
      await assertConfirmed(file, confirmed, trust);
      const clones = await fork({
        file,
        trust: confirmed,
        ...options,
        ...defined({ dir: folder }),
        signal,
        onWarning,
      });
      await clones.detach();
      for (const { facts } of clones.vms) vms.watch(facts.qmp);
      const { totalTimeMs } = clones;
      return {
        result: { directory: clones.directory, vms: clones.vms.map(({ facts }) => facts), totalTimeMs },
      };
    },
  };
}

/** What a file would start, for the user to look at: files come from strangers, and this runs a program. */
export async function launchPlan(file: string): Promise<ResumePlan> {
  // Whether a disk has changed is for the operation itself to say; here nothing is run.
  return await planResume({ file, allowChangedDisks: true });
}

/**
 * Refuses what the user has not seen. Only what has this fingerprint is started then: were the file exchanged from now on, that would fail.
 *
 * @param trust whether the user has agreed to a command line that somebody else may have written
 */
async function assertConfirmed(file: string, fingerprint: string, trust: boolean): Promise<void> {
  const plan = await launchPlan(file);
  if (!trust) assertMayRun(file, plan);
  assertMayRun(file, plan, fingerprint);
}

async function withVm<T>(vms: VmList, vm: string, { id }: WorkContext, work: () => Promise<T>): Promise<T> {
  vms.claim(vm, id);
  try {
    await vms.idle(vm);
    return await work();
  } finally {
    await vms.release(vm);
  }
}

function ofDirectory(directories: Directories, file: string): { directory?: string } {
  const directory = directories.of(file);
  return defined({ directory });
}

function callbacks({ signal, onProgress, onWarning }: WorkContext) {
  return { signal, onProgress, onWarning };
}
