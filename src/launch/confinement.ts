/**
 * Confines a QEMU, so that a guest that breaks out of it gets hold of as little as possible: system calls, user, resources.
 *
 * QEMU 10.0.2 and 7.2.22, as root: with `user`, QEMU opens files and sockets as root and gives up root before the guest runs. `-sandbox`
 * is in force before that, and `elevateprivileges=deny` and `=children` end a QEMU that then changes its user (SIGSYS). So it is `allow`
 * then: from a user without privileges there is no way back without another program, and `spawn=deny` lets it start none.
 */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { errorReason, MapramError } from '../errors.js';
import type { CommandLineOption } from './command-line.js';

/** What a QEMU is allowed to. */
export interface Confinement {
  /**
   * Let QEMU use only the system calls of a running VM (`-sandbox on` with everything denied): it can start no other program, so that
   * `-netdev tap` with a script or helper does not work.
   */
  sandbox?: boolean | undefined;
  /**
   * The user that QEMU becomes once it has opened its files, before the guest runs: `NAME` or `UID:GID`. Needs root. What is opened
   * later, such as a disk that is plugged in, must be accessible to this user.
   */
  user?: string | undefined;
  /**
   * Directory of a cgroup (version 2, or one of version 1) that exists and into which QEMU is put as soon as it is started. Its limits hold
   * for all VMs in it together.
   */
  cgroup?: string | undefined;
}

const run = promisify(execFile);
const SANDBOX = 'on,obsolete=deny,spawn=deny,resourcecontrol=deny';
/** A list of options is short. */
const MAX_HELP_BYTES = 4 << 20;
/** QEMU prints it at once; on a machine that is very busy it may take a while. */
const HELP_MS = 60_000;

/**
 * The command line with these limits. Those that were recorded give way to them.
 *
 * @throws MapramError `USAGE` for a user or cgroup that cannot be used, `VM` where QEMU cannot be asked how it changes its user
 */
export async function confined(
  program: string,
  options: readonly CommandLineOption[],
  { sandbox = false, user, cgroup }: Confinement,
): Promise<CommandLineOption[]> {
  if (cgroup !== undefined && !existsSync(membersOf(cgroup))) {
    throw new MapramError(
      'USAGE',
      `starting a VM in the cgroup ${cgroup}: it is not a cgroup; make one below /sys/fs/cgroup first`,
      { path: cgroup },
    );
  }
  const replaced = new Set([
    ...(sandbox ? ['sandbox'] : []),
    ...(user === undefined ? [] : ['runas', 'run-with']),
  ]);
  const kept = options.filter(({ name }) => !replaced.has(name));
  if (sandbox) {
    const elevate = user === undefined ? 'deny' : 'allow';
    kept.push({ name: 'sandbox', value: `${SANDBOX},elevateprivileges=${elevate}` });
  }
  if (user !== undefined) kept.push(await userOption(program, user));
  return kept;
}

/** Puts a process into a cgroup. @throws MapramError `IO` */
export function enterCgroup(cgroup: string, pid: number): void {
  try {
    writeFileSync(membersOf(cgroup), String(pid));
  } catch (cause) {
    throw new MapramError('IO', `moving QEMU into the cgroup ${cgroup}: ${errorReason(cause)}`, {
      path: cgroup,
      cause,
    });
  }
}

function membersOf(cgroup: string): string {
  return path.join(cgroup, 'cgroup.procs');
}

/** `-run-with user=` came with QEMU 9.1, where `-runas` became deprecated. */
async function userOption(program: string, user: string): Promise<CommandLineOption> {
  if (process.getuid?.() !== 0) {
    throw new MapramError('USAGE', `starting a VM as user ${user}: only root can do that`);
  }
  // A comma would begin another setting of -run-with.
  if (!/^[\w.@-]+\$?$|^\d+:\d+$/.test(user)) {
    throw new MapramError('USAGE', `starting a VM as user ${user}: give NAME or UID:GID`);
  }
  const { stdout } = await run(program, ['-help'], { maxBuffer: MAX_HELP_BYTES, timeout: HELP_MS }).catch(
    (cause: unknown) => {
      throw new MapramError('VM', `${program} cannot be asked for its options: ${errorReason(cause)}`, {
        cause,
      });
    },
  );
  return /^-run-with .*\[user=/m.test(stdout.replaceAll(/\]\s*\[/g, ']['))
    ? { name: 'run-with', value: `user=${user}` }
    : { name: 'runas', value: user };
}
