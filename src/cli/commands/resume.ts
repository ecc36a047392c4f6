import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { InvalidArgumentError, Option } from 'commander';
import { defined } from '../../defined.js';
import { errorReason } from '../../errors.js';
import { quoteForShell } from '../../launch/command-line.js';
import type { ExitStatus } from '../../launch/qemu-process.js';
import { formatSize } from '../../size.js';
import {
  planResume,
  type ResumeOptions,
  type ResumePlan,
  resume as resumeVm,
} from '../../snapshot/resume/resume.js';
import type { ResumedVm, ResumedVmFacts } from '../../snapshot/resume/resumed-vm.js';
import type { BackgroundCheckOptions } from '../../snapshot/verify/background-check.js';
import { problemsInWords, type VerifiedFile } from '../../snapshot/verify/verify.js';
import { allowancesOf, declareAllowances } from '../allowances.js';
import { parseCount, parseOffset } from '../arguments.js';
import type { CommandContext, CommandOf, CommandResult, Options } from '../command.js';
import { declareFetchOptions, fetchOptionsOf } from '../fetch-options.js';
import { formatDuration, properties } from '../format.js';
import type { ResumeReport } from '../results.js';
import { startTrusted } from '../trust-question.js';

export const resume: CommandOf<'resume'> = {
  name: 'resume',
  summary: 'start a VM with a saved file as its memory, copy-on-write, in milliseconds',
  declare(command) {
    command
      .argument(
        '<file>',
        'a mapped-ram file of mapram, QEMU or libvirt, which is never written to, or PLACE/NAME in a store',
      )
      .argument('[qemu...]', "behind --: the VM's command line; by default the one recorded in the file")
      .option('--qmp <socket>', 'where the monitor is to listen (default: where it did)')
      .addOption(new Option('--paused', 'leave the guest stopped').conflicts('cont'))
      .option('--cont', 'let the guest run, also when it was saved paused')
      .option(...CLOCK_OPTION)
      .option('--detach', 'leave the VM running; without it the VM ends with this command')
      .addOption(prefetchOption())
      .option(
        '--record-prefetch [ms]',
        'record beside the file which pages the guest touches in its first ms (default: 1000)',
        parseCount,
      )
      .addOption(secretOption())
      .option(...VERIFY_OPTION)
      .addOption(onDamageOption())
      .option(...SIGNATURE_OPTION)
      .option('--offset <bytes>', 'where in the file the stream starts', parseOffset)
      .option('--print', 'print the command line that would be run, and run nothing')
      .addHelpText(
        'after',
        `
Examples:
  mapram resume vm.mapram --detach
  mapram resume vm.mapram --qmp /run/copy.qmp -- qemu-system-x86_64 -machine q35 -m 1G -nodefaults -display none
  mapram resume vm.mapram --print`,
      );
    declareFetchOptions(command);
    declareAllowances(command);
  },
  dependent: { '--on-damage': ['--verify', '--require-signature'] },
  async run([file, command], options, context) {
    const { qmp, secret, detach = false } = options;
    const request: ResumeOptions = {
      file: String(file),
      ...defined({ command: (command as string[]).length === 0 ? undefined : (command as string[]) }),
      ...defined({ qmp, secrets: secret, offset: options.offset }),
      paused: options.paused === true,
      cont: options.cont === true,
      setClock: options.setClock === true,
      ...allowancesOf(options),
      ...fetchOptionsOf(options),
      prefetch: options.prefetch,
      ...checkOptions(options),
      terminal: detach || context.json ? 'detached' : 'inherit',
      signal: context.signal,
      onProgress: context.progress,
      onWarning: context.warn,
    };
    if (options.print === true) return await print(request, context);
    const startedAt = performance.now();
    const vm = await startTrusted(request, context, resumeVm);
    await using running = vm;
    const fields: ResumeReport = {
      vms: [vm.facts],
      totalTimeMs: Math.round((performance.now() - startedAt) * 10) / 10,
    };
    if (!detach) {
      context.ready(fields, describe(vm.facts));
      running.forwardErrors();
      onDamageFound(vm, options, context, () => vm.end());
    }
    if (options.recordPrefetch !== undefined) {
      fields.recordedBytes = await record(vm, options.recordPrefetch, context.signal);
    }
    if (detach) {
      fields.prefetchedBytes = await vm.prefetched;
      const verdict = await checked(vm, request.file, context);
      if (!endsOnDamage(options, verdict)) await vm.detach();
      return { fields: { ...fields, ...verdict.fields }, text: describe(vm.facts), ...verdict.failure };
    }
    const status = await untilEnded(running.exited, context.signal);
    const crash = describeCrash(status);
    if (crash !== undefined) return { fields, text: '', failed: `resume: the VM ended: ${crash}` };
    const verdict = await checked(vm, request.file, context);
    return { fields: { ...fields, ...verdict.fields }, text: '', ...verdict.failure };
  },
};

export const CLOCK_OPTION = [
  '--set-clock',
  "set the guest's clock to the host's time, through the QEMU guest agent in it",
] as const;

/** `--verify`, for commands whose guests do not wait for it. */
export const VERIFY_OPTION = [
  '--verify',
  'hold all memory against its checksums in the background, while the guest runs already',
] as const;

export const SIGNATURE_OPTION = [
  '--require-signature <key>',
  'the file must be signed; the public key, an Ed25519 key in PEM form (all of the file is read before a VM is started)',
] as const;

export function onDamageOption(): Option {
  return new Option(
    '--on-damage <what>',
    'with --verify: stop guests whose memory is damaged, end their VMs, or let them run',
  )
    .choices(['stop', 'quit', 'continue'])
    .default('stop');
}

/** What these options are to the library. */
export function checkOptions({ verify, onDamage, requireSignature }: Options): BackgroundCheckOptions & {
  requireSignature?: string;
} {
  return {
    verify: verify === true,
    // The command ends them.
    onDamage: onDamage === 'quit' ? 'stop' : onDamage,
    ...defined({ requireSignature }),
  };
}

/** Whether VMs that were to be left running are ended instead. */
export function endsOnDamage({ onDamage }: Options, { failure }: Verdict): boolean {
  return onDamage === 'quit' && failure.failed !== undefined;
}

/** What a command in the foreground does once the memory of its VMs is found damaged: otherwise it would wait without a word. */
export function onDamageFound(
  vms: { readonly verified: Promise<VerifiedFile | undefined> },
  { onDamage }: Options,
  { warn }: CommandContext,
  end: () => Promise<unknown>,
): void {
  const act = async () => {
    const found = await vms.verified.catch(() => undefined);
    if (found === undefined || found.ok || onDamage === 'continue') return;
    if (onDamage === 'quit') await end();
    else warn('this command waits for the end of what was stopped: ^C ends it, and so does "mapram quit"');
  };
  void act();
}

interface Verdict {
  fields: { verification?: VerifiedFile };
  failure: { failed?: string };
}

/** Waits for the check of the memory, if one was asked for. */
export async function checked(
  vms: { readonly verified: Promise<VerifiedFile | undefined> },
  file: string,
  { signal, print }: CommandContext,
): Promise<Verdict> {
  const verification = await untilEnded(vms.verified, signal);
  if (verification === undefined) return { fields: {}, failure: {} };
  const { ok, problems, checkedBytes, totalTimeMs } = verification;
  if (ok) print(`verified: ${formatSize(checkedBytes)} in ${formatDuration(totalTimeMs)}, as saved`);
  return {
    fields: { verification },
    failure: defined({ failed: ok ? undefined : `verifying ${file}: ${problemsInWords(problems)}` }),
  };
}

const DEFAULT_RECORD_MS = 1000;

async function record(vm: ResumedVm, ms: number | true, signal: AbortSignal): Promise<number> {
  await untilEnded(delay(ms === true ? DEFAULT_RECORD_MS : ms, undefined, { signal }), signal);
  return vm.recordPrefetch();
}

/** `--prefetch all|recorded|none`. */
export function prefetchOption(): Option {
  return new Option(
    '--prefetch <what>',
    'read ahead all of the file, what an earlier resume has recorded, or nothing',
  )
    .choices(['all', 'recorded', 'none'])
    .default('recorded');
}

/** `--secret NAME=FILE`, any number of times; the value is the file's contents without the line break at its end. */
export function secretOption(): Option {
  return new Option(
    '--secret <name=file>',
    'a secret that was left out of the recorded command line',
  ).argParser((text: string, former: Record<string, string> = {}) => {
    const [, name, file] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || file === undefined) throw new InvalidArgumentError('Expected NAME=FILE.');
    try {
      return { ...former, [name]: readFileSync(file, 'utf8').replace(/\r?\n$/, '') };
    } catch (error) {
      throw new InvalidArgumentError(`${errorReason(error)}.`);
    }
  });
}

/** Waits for the end of VMs in the foreground. ^C ends the wait with an error, and what is being disposed of with it. */
export async function untilEnded<T>(ended: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([ended, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Why a QEMU ended, unless it was shut down or asked to quit. */
export function describeCrash({ code, signal }: ExitStatus): string | undefined {
  if (signal === 'SIGBUS') return 'a page of its memory could not be read from the file (SIGBUS)';
  if (signal !== null) return `QEMU was ended by ${signal}`;
  return code === 0 ? undefined : `QEMU ended with code ${code}`;
}

async function print(request: ResumeOptions, context: CommandContext): Promise<CommandResult<ResumePlan>> {
  const plan = await planResume(request);
  for (const warning of plan.warnings) context.warn(warning);
  const { reason } = plan.trust;
  if (reason !== undefined) context.warn(`this is not run unasked: ${reason}`);
  return { fields: plan, text: quoteForShell(plan.command) };
}

function describe({ pid, qmp, loadTimeMs, totalTimeMs, ...facts }: ResumedVmFacts): string {
  return properties([
    ['VM', `${facts.runState}, process ${pid}`],
    ...clockLines(facts),
    ['QMP', qmp],
    ['time', `${formatDuration(totalTimeMs)}, of it ${formatDuration(loadTimeMs)} for the device state`],
  ]);
}

/** How old the guest's idea of the time is. */
export function clockLines({
  savedAt,
  clockSet,
}: Pick<ResumedVmFacts, 'savedAt' | 'clockSet'>): [string, string][] {
  if (savedAt === undefined) return clockSet === true ? [['clock', 'set to the time of this host']] : [];
  const age = formatDuration(Math.max(0, Date.now() - Date.parse(savedAt)));
  const clock = clockSet === true ? 'was set' : 'continues from there until something sets it';
  return [['saved', `${age} ago (${savedAt}); the guest's clock ${clock}`]];
}
