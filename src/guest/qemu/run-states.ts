/**
 * What a save may do with a VM, by the run state that QEMU reports for it, and what becomes of that VM.
 *
 * | run state | saved | as background snapshot | then `cont` |
 * |---|---|---|---|
 * | `running` | yes | yes | yes |
 * | `paused` | yes | yes | yes |
 * | `suspended` (S3) | yes | yes | no: `system_wakeup` first |
 * | `prelaunch`, `io-error`, `watchdog`, `guest-panicked` | yes | no | yes |
 * | `internal-error`, `shutdown` | yes | no | no: `system_reset` first |
 * | `debug`, `save-vm`, `restore-vm`, `colo` | no | no | |
 * | `inmigrate`, `finish-migrate`, `postmigrate` | no | no | |
 *
 * Each "no" is a QEMU that refuses, or one that ends: 10.0.2 and 7.2.22 abort ("invalid runstate transition") where their table of
 * transitions lacks one, such as `save-vm` to `finish-migrate`, `finish-migrate` to `debug`, `io-error` to `paused`, or
 * `postmigrate` to `suspended`, which is what `cont` means for a guest in S3 after a migration.
 *
 * A VM that did not run is left as follows:
 *
 * | way | QEMU 9.0 and later | before |
 * |---|---|---|
 * | `shared`, `stream` | as before: the migration is made to fail once everything has come | `postmigrate` |
 * | `native` | `postmigrate` | |
 * | `incremental` | as before; `suspended` by way of `save-vm` and `cont` | as before |
 * | `background` | as before | |
 *
 * From `postmigrate` QEMU saves no VM again, and from 9.0 on a guest in S3 never runs again: `cont` aborts. Earlier ones wake a guest in
 * S3 in order to migrate it: 7.2.22 records it as running.
 */
import type { QemuWithFeatures } from './qemu-features.js';

/** A method of saving; `background` is a stream of its own kind. */
export type WayOfSaving = 'shared' | 'native' | 'stream' | 'incremental' | 'background';

/** What becomes of the VM. By default it is as before. */
export type Afterwards = 'cont' | 'stop' | 'quit';

interface RunStateRule {
  /** Why QEMU cannot save a VM in this state, and what to do about it. */
  unsaved?: string;
  /** Whether QEMU survives a background snapshot. */
  background?: boolean;
  /** What has to come before `cont`. */
  beforeCont?: string;
}

const RULES: Readonly<Record<string, RunStateRule>> = {
  running: { background: true },
  paused: { background: true },
  suspended: { background: true, beforeCont: 'its guest is asleep (S3), wake it first with "system_wakeup"' },
  prelaunch: {},
  'io-error': {},
  watchdog: {},
  'guest-panicked': {},
  'internal-error': { beforeCont: 'QEMU continues it only after "system_reset"' },
  shutdown: { beforeCont: 'QEMU continues it only after "system_reset"' },
  debug: { unsaved: 'a debugger has stopped it; let that continue it or detach' },
  inmigrate: { unsaved: 'it waits for an incoming migration and has nothing to save yet' },
  postmigrate: {
    unsaved: 'it was stopped by an earlier migration and QEMU saves such a VM only after "cont"',
  },
  'finish-migrate': { unsaved: 'an earlier migration has not ended; wait for that or cancel it' },
  'save-vm': {
    unsaved: 'another snapshot of it has been taken and left it so; continue it first with "cont"',
  },
  'restore-vm': { unsaved: 'a snapshot is being loaded into it; wait for that' },
  colo: { unsaved: 'it is one half of a COLO pair; end that first' },
};

/** Why QEMU cannot save a VM in this state, undefined if it can. */
export function whyNotSaved(runState: string): string | undefined {
  const rule = RULES[runState];
  return rule === undefined ? `its state is ${runState}, in which QEMU cannot save it` : rule.unsaved;
}

/** Whether a VM that did not run is afterwards in the state in which it was. */
export function returnsToState(vm: QemuWithFeatures, way: WayOfSaving): boolean {
  if (way === 'native') return false;
  return way === 'incremental' || vm.has('failureReturns');
}

/**
 * Why a VM in this state, which can be saved, is not saved this way: in words that follow "saving the VM at …: ". Undefined where it
 * may be.
 */
export function problemWithState(
  vm: QemuWithFeatures,
  runState: string,
  way: WayOfSaving,
  afterwards: Afterwards | undefined,
): string | undefined {
  const { background = false, beforeCont } = RULES[runState] ?? {};
  if (way === 'background' && !background)
    return `QEMU ends when it takes a background snapshot of a VM whose state is ${runState}; leave out --background`;
  if (runState === 'running') return undefined;
  if (afterwards === 'cont' && beforeCont !== undefined)
    return `its state is ${runState}, and ${beforeCont}; leave out --then cont`;
  if (afterwards !== undefined || returnsToState(vm, way)) return undefined;
  const cure =
    way === 'native' && vm.has('failureReturns')
      ? 'use another method, or accept that with --then stop or --then quit'
      : 'accept that with --then stop or --then quit, or let it run first';
  return `its state is ${runState}, and QEMU ${vm.versionText} would leave it in the state postmigrate (--method ${way}), in which it cannot be saved again${beforeCont === undefined ? '' : ' nor continued'}; ${cure}`;
}
