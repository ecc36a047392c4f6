/** What resuming and forking may be asked for, as far as they have it in common. */

import * as v from 'valibot';
import {
  either,
  type FormerNames,
  flag,
  type OptionEntries,
  oneOf,
  path,
  text,
  wholeNumber,
} from '../../checked-options.js';
import type { Confinement } from '../../launch/confinement.js';
import { MEMORY_CHECKS, type MemoryCheck } from '../checks/memory-after-load.js';
import type { FileOptions } from '../files/file-options.js';
import { offset, participation } from '../files/option-kinds.js';
import type { LazyOptions } from '../store/local-copy.js';
import type { PrefetchMode } from './prefetch.js';

/** Checks of the launch, each of which can be switched off by its name. */
export interface LaunchAllowances {
  /**
   * Run the command line that is recorded in the file although somebody else could have written it: `true` whatever it is, or the
   * `fingerprint` of a plan, so that nothing but what that plan has shown is run. Without it, only what this user has recorded on this
   * host or a trusted key has signed is run. The command line of another user's process never is.
   */
  trust?: boolean | string | undefined;
  /** Go on, with a warning, although disks have changed since the save. */
  allowChangedDisks?: boolean | undefined;
  /** Go on, with a warning, although the CPU lacks what the saved guest had. */
  allowCpuMismatch?: boolean | undefined;
}

/** What resuming and forking have in common. */
export interface LaunchOptions extends LaunchAllowances, LazyOptions, Confinement, FileOptions {
  /**
   * The command line of the VM: the program first, or only its arguments, for the recorded program. By default the one that is recorded in
   * the file.
   */
  command?: readonly string[] | undefined;
  /** Secrets that were left out of the recorded command line, by their names there. */
  secrets?: Readonly<Record<string, string>> | undefined;
  /** Leave the guest stopped. */
  paused?: boolean | undefined;
  /** Let the guest run also when it was paused when it was saved. */
  cont?: boolean | undefined;
  /**
   * Path of an Ed25519 public key in PEM form, by whose private key the file must be signed. All of the file is then read and
   * held against its checksums before a QEMU is started.
   */
  requireSignature?: string | undefined;
  /**
   * Before the guest runs, compare the pages that QEMU has made its own with the file: a `sample` of up to 1024 by default, or `all`. Where
   * QEMU's memory may not be read, a sample is left out.
   */
  checkMemory?: MemoryCheck | undefined;
  /** What to read into the page cache meanwhile; `recorded` by default, which is nothing where there is no record. */
  prefetch?: PrefetchMode | undefined;
  /** Also called later, when the file is changed although VMs run from it that are not detached. */
  onWarning?: ((message: string) => void) | undefined;
}

export const launchEntries: OptionEntries<LaunchOptions> = {
  file: path,
  offset,
  command: v.optional(v.array(v.string('a string'), 'an array of the words of a command line')),
  secrets: v.optional(v.record(v.string(), v.string('a string'), 'an object with a secret for each name')),
  paused: flag,
  cont: flag,
  requireSignature: v.optional(path),
  checkMemory: v.optional(oneOf(MEMORY_CHECKS)),
  prefetch: v.optional(oneOf(['all', 'recorded', 'none'])),
  fetch: v.optional(oneOf(['all', 'on-demand', 'first'])),
  maxRate: v.optional(wholeNumber(1)),
  offlineTimeoutMs: v.optional(wholeNumber(0)),
  trust: v.optional(
    either((value) => typeof value === 'string', text, v.boolean('true, false or the fingerprint of a plan')),
  ),
  allowChangedDisks: flag,
  allowCpuMismatch: flag,
  sandbox: flag,
  user: v.optional(text),
  cgroup: v.optional(path),
  ...participation,
};

export const FORMER_LAUNCH_NAMES: FormerNames = {
  // It once switched off all of these checks.
  force:
    'allowChangedDisks lets disks have changed, trust runs a command line that somebody else could have written',
  directory: 'it is called dir now',
};
