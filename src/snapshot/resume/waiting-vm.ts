/** A QEMU that has its memory mapped from a snapshot and waits for the device state. */

import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { clientSocketsOf } from '../../launch/endpoints.js';
import { machineSupport } from '../../launch/machine-type.js';
import { QemuProcess, type QemuProcessOptions } from '../../launch/qemu-process.js';
import { qemuRelease } from '../../launch/qemu-release.js';
import { QmpClient, silenceWarning } from '../../qmp/qmp-client.js';
import { QmpError } from '../../qmp/qmp-error.js';
import { runsOnceLoaded } from '../../stream/global-state.js';
import { assertFitsVm, type FitOptions } from '../checks/fits-vm.js';
import type { MemoryCheck } from '../checks/memory-after-load.js';
import type { PreparedState, ResumeSource } from './resume-source.js';
import type { StatePatch } from './state-stream.js';

/** QEMU answers once its machine is built, which takes a while where firmware and disks are slow. */
const START_TIMEOUT_MS = 60_000;

/** None but ours: command lines with descriptors of others are refused. The number is given so that no answer is waited for. */
const STATE_FDSET = 1;

/** `memory-backend-file` has `offset` since 8.1, `readonly` with `rom` since 8.2. */
const MISSING_PROPERTY = /([Pp]roperty 'memory-backend-file\.|Invalid parameter ')(offset|rom|readonly)'/;

const UNKNOWN_MACHINE = /unsupported machine type/i;

export class WaitingVm implements AsyncDisposable {
  private constructor(
    readonly process: QemuProcess,
    readonly vm: QemuVm,
    private readonly source: ResumeSource,
    private readonly check: MemoryCheck,
    /** Whether the guest is to run once it has its state, unless the caller wants otherwise. */
    private readonly runs: boolean,
  ) {}

  /**
   * Starts QEMU and makes sure that it is the machine of the snapshot.
   *
   * @throws MapramError with what QEMU wrote to its stderr; no process is left behind
   */
  static async start(
    source: ResumeSource,
    launch: QemuProcessOptions,
    {
      signal,
      checkMemory = 'sample',
      ...fit
    }: Pick<FitOptions, 'allowCpuMismatch' | 'onWarning'> & {
      checkMemory?: MemoryCheck | undefined;
      signal?: AbortSignal | undefined;
    } = {},
  ): Promise<WaitingVm> {
    const release = await qemuRelease(launch.program, launch.workingDirectory ?? '.');
    signal?.throwIfAborted();
    const process = QemuProcess.start({ ...launch, release });
    try {
      const client = await QmpClient.connect(process.monitor, {
        name: launch.program,
        timeoutMs: START_TIMEOUT_MS,
        ...defined({ signal }),
      });
      client.setPatience({ ...defined({ signal }), onSilence: silenceWarning(fit.onWarning) });
      const vm = QemuVm.over(client);
      // Every question that waits for the answer to another one costs the guest's time.
      await Promise.all([
        assertFitsVm(source.image, vm, {
          ...fit,
          commandLine: launch.options,
          action: `resuming ${source.file}`,
        }),
        vm.client.execute('migrate-set-capabilities', {
          capabilities: [{ capability: 'events', state: true }],
        }),
        noteDeprecation(vm, source.image.configuration.machine, fit.onWarning),
      ]);
      source.assertUnchanged();
      const stopped = launch.options.some(({ name }) => name === 'S');
      const held = !stopped && runsOnceLoaded(source.image.tail.sections);
      if (held) vm.holdAfterLoad();
      return new WaitingVm(process, vm, source, checkMemory, held || (source.ranUnderLibvirt && !stopped));
    } catch (error) {
      const failure = signal?.aborted ? signal.reason : await explained(error, process, source, launch);
      await process.kill();
      throw failure;
    }
  }

  /**
   * Gives QEMU the device state and holds its memory against the file; the guest then runs, or not, as the state and the command line say.
   *
   * @returns its run state, how long QEMU took, and how many pages were compared, where its memory may be read
   * @throws MapramError `MIGRATION` with what QEMU wrote to its stderr; `VM` where its memory is not what the file says, or it does not
   *   let the guest run
   */
  async load(
    state: PreparedState,
    {
      cont = false,
      patches = [],
      signal,
    }: { cont?: boolean; patches?: readonly StatePatch[]; signal?: AbortSignal } = {},
  ): Promise<{ runState: string; loadTimeMs: number; checkedPages?: number }> {
    const { vm } = this;
    const startedAt = performance.now();
    const { fd, resent } = await state.openFor(this.process.pid, patches);
    try {
      const lent = vm.client
        .execute('add-fd', { 'fdset-id': STATE_FDSET, opaque: 'mapram' }, { descriptors: [fd] })
        .finally(() => releaseFiles([fd]));
      await Promise.all([lent, vm.migrateIncoming(`file:/dev/fdset/${STATE_FDSET}`)]);
      await vm.waitForMigration(['completed'], {
        settles: true,
        ...defined({ signal }),
      });
      const loadTimeMs = performance.now() - startedAt;
      this.source.assertUnchanged();
      const [checked, loaded] = await Promise.all([
        state.assertLoaded(this.process.pid, this.check, resent),
        vm.runState(),
        vm.client.execute('migrate-set-capabilities', {
          capabilities: [{ capability: 'events', state: false }],
        }),
        vm.client.execute('remove-fd', { 'fdset-id': STATE_FDSET }).catch(() => {}),
      ]);
      const runState = (cont || this.runs) && loaded !== 'running' ? await this.#letRun(loaded) : loaded;
      return { runState, loadTimeMs, ...defined({ checkedPages: checked?.checkedPages }) };
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof MapramError && ['VM', 'UNSUPPORTED'].includes(error.code)) throw error;
      const said = this.process.said;
      throw new MapramError(
        'MIGRATION',
        `resuming ${this.source.file}: QEMU does not take the device state: ${said === '' ? (error as Error).message : said}`,
        { path: this.source.file, cause: error },
      );
    }
  }

  /** Where QEMU refuses that, another process mostly has its disks open. */
  async #letRun(loaded: string): Promise<string> {
    const { vm, process, source } = this;
    try {
      const [, runState] = await Promise.all([vm.cont(), vm.runState()]);
      return runState;
    } catch (cause) {
      if (!(cause instanceof QmpError)) throw cause;
      throw new MapramError(
        'VM',
        `resuming ${source.file}: QEMU took the device state and left the guest ${loaded}: ${process.said || cause.description}`,
        { path: source.file, cause },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await this.process.kill();
  }
}

/** What QEMU itself said is worth more than that its monitor closed. */
/** A file of a machine type that QEMU is about to lose should be saved again by a VM that was started with a newer one. */
async function noteDeprecation(
  vm: QemuVm,
  machine: string,
  onWarning: ((message: string) => void) | undefined,
): Promise<void> {
  if (onWarning === undefined) return;
  const machines = await vm.client.execute('query-machines');
  if (machines.find(({ name }) => name === machine)?.deprecated !== true) return;
  onWarning(
    `machine type ${machine} is deprecated in QEMU ${vm.versionText}, and a later QEMU cannot load this file${newestWith(machine)}`,
  );
}

function newestWith(machine: string): string {
  const support = machineSupport(machine);
  return support === undefined ? '' : `; the newest major with it is ${support.newestMajor}`;
}

async function explained(
  error: unknown,
  process: QemuProcess,
  source: ResumeSource,
  { program, options }: QemuProcessOptions,
): Promise<unknown> {
  if (!(error instanceof MapramError) || error.code !== 'MONITOR') return error;
  const reason = await process.describeEnd(program);
  if (MISSING_PROPERTY.test(reason)) {
    return new MapramError(
      'UNSUPPORTED',
      `resuming ${source.file}: ${program} is too old to map a part of a file as its memory (QEMU 8.2 can); use "mapram restore"`,
      { path: program, cause: error },
    );
  }
  if (UNKNOWN_MACHINE.test(reason)) {
    const { machine } = source.image.configuration;
    const advice = `start an older QEMU that has it${newestWith(machine)}`;
    return new MapramError(
      'UNSUPPORTED',
      `resuming ${source.file}: ${program} has no machine type ${machine}; ${advice}`,
      { path: program, cause: error },
    );
  }
  return new MapramError(
    'VM',
    `resuming ${source.file}: QEMU did not start: ${reason}${missingPeer(reason, options)}`,
    {
      path: source.file,
      cause: error,
    },
  );
}

/** What to do about a program that QEMU wants to talk to and that is not there. */
function missingPeer(reason: string, options: QemuProcessOptions['options']): string {
  const address = /Failed to connect to '([^']+)'/.exec(reason)?.[1];
  const client = clientSocketsOf(options).find((candidate) => candidate.address === address);
  if (client === undefined) return '';
  return client.isTpm
    ? `; start a TPM there first, whose state comes out of the file: swtpm socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=${address}`
    : `; start the program that serves ${client.user} there first, or give another command line after --`;
}
