/** A QEMU that has its memory mapped from a snapshot and waits for the device state. */

import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { clientSocketsOf } from '../../launch/endpoints.js';
import { machineSupport } from '../../launch/machine-type.js';
import { QemuProcess, type QemuProcessOptions } from '../../launch/qemu-process.js';
import { QmpClient } from '../../qmp/qmp-client.js';
import { assertFitsVm, type FitOptions } from '../checks/fits-vm.js';
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
    /** Whether QEMU lets the guest run as soon as it has its state. */
    private readonly startsByItself: boolean,
    /** Whether to let it run then, although its state says that it was paused. */
    private readonly letsRun: boolean,
  ) {}

  /**
   * Starts QEMU and makes sure that it is the machine of the snapshot.
   *
   * @throws MapramError with what QEMU wrote to its stderr; no process is left behind
   */
  static async start(
    source: ResumeSource,
    launch: QemuProcessOptions,
    { signal, ...fit }: Pick<FitOptions, 'allowCpuMismatch' | 'onWarning'> & { signal?: AbortSignal } = {},
  ): Promise<WaitingVm> {
    const process = QemuProcess.start(launch);
    try {
      const client = await QmpClient.connect(process.monitor, {
        name: launch.program,
        timeoutMs: START_TIMEOUT_MS,
        ...defined({ signal }),
      });
      if (signal !== undefined) client.setPatience({ signal });
      const vm = QemuVm.over(client);
      // Every question that waits for the answer to another one costs the guest's time.
      await Promise.all([
        assertFitsVm(source.image, vm, { ...fit, commandLine: launch.options }),
        vm.client.execute('migrate-set-capabilities', {
          capabilities: [{ capability: 'events', state: true }],
        }),
      ]);
      source.assertUnchanged();
      const stopped = launch.options.some(({ name }) => name === 'S');
      const startsByItself = source.runState === 'running' && !stopped;
      return new WaitingVm(process, vm, source, startsByItself, source.ranUnderLibvirt && !stopped);
    } catch (error) {
      const failure = signal?.aborted ? signal.reason : await explained(error, process, source, launch);
      await process.kill();
      throw failure;
    }
  }

  /**
   * Gives QEMU the device state; the guest then runs, or not, as the state and the command line say.
   *
   * @returns its run state and how long QEMU took
   * @throws MapramError `MIGRATION` with what QEMU wrote to its stderr
   */
  async load(
    state: PreparedState,
    {
      cont = false,
      patches = [],
      signal,
    }: { cont?: boolean; patches?: readonly StatePatch[]; signal?: AbortSignal } = {},
  ): Promise<{ runState: string; loadTimeMs: number }> {
    const { vm } = this;
    const startedAt = performance.now();
    const fd = await state.openFor(this.process.pid, patches);
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
      let [runState] = await Promise.all([
        vm.runState(),
        vm.client.execute('migrate-set-capabilities', {
          capabilities: [{ capability: 'events', state: false }],
        }),
        vm.client.execute('remove-fd', { 'fdset-id': STATE_FDSET }).catch(() => {}),
      ]);
      if (this.startsByItself && runState !== 'running') throw this.#didNotRun(runState);
      if ((cont || this.letsRun) && runState !== 'running') {
        await vm.cont();
        runState = await vm.runState();
      }
      return { runState, loadTimeMs };
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof MapramError && error.code === 'VM') throw error;
      const said = this.process.said;
      throw new MapramError(
        'MIGRATION',
        `resuming ${this.source.file}: QEMU does not take the device state: ${said === '' ? (error as Error).message : said}`,
        { path: this.source.file, cause: error },
      );
    }
  }

  /** QEMU has the state and keeps the guest stopped: mostly because another process has its disks open. */
  #didNotRun(runState: string): MapramError {
    return new MapramError(
      'VM',
      `resuming ${this.source.file}: QEMU took the device state and left the guest ${runState}: ${this.process.said}`,
      { path: this.source.file },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await this.process.kill();
  }
}

/** What QEMU itself said is worth more than that its monitor closed. */
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
    const newest = machineSupport(machine)?.removed;
    const advice = `start an older QEMU that has it${newest === undefined ? '' : `, one before ${newest}`}`;
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
