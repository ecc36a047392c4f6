/** Operations that start VMs from a file: resume and fork. */
import { defined } from '../../defined.js';
import { quoteForShell } from '../../launch/command-line.js';
import { fork } from '../../snapshot/resume/fork.js';
import { assertMayRun } from '../../snapshot/resume/recorded-launch.js';
import { planResume, type ResumePlan, resume } from '../../snapshot/resume/resume.js';
import type { Work, WorkContext } from '../operations.js';
import type { RequestOf } from '../requests.js';
import type { ForkSummary } from './summaries.js';
import type { Things } from './things.js';

/** What a file would start, for the user to look at. */
export interface ShownPlan extends ResumePlan {
  /** The command as it is typed into a shell. */
  readonly line: string;
}

/** Files come from strangers, and this runs a program. */
export async function launchPlan(file: string): Promise<ShownPlan> {
  // Whether a disk has changed is for the operation itself to say; here nothing is run.
  const plan = await planResume({ file, allowChangedDisks: true });
  return { ...plan, line: quoteForShell(plan.command) };
}

export function resumeWork(request: RequestOf<'resume'>, { vms, saved }: Things): Work {
  const { kind, file, confirmed, trust, qmp, onDamage, requireSignature, ...options } = request;
  saved.entry(file);
  return {
    kind,
    title: `Resume ${file}`,
    file,
    async run(context) {
      await assertConfirmed(file, confirmed, trust);
      const vm = await resume({
        file,
        trust: confirmed,
        ...options,
        ...defined({ qmp, onDamage, requireSignature }),
        ...signals(context),
      });
      const verdict = damageOf(await vm.verified);
      // It is not to end with the page.
      await vm.detach();
      vms.watch(vm.facts.qmp);
      return { result: vm.facts, ...verdict };
    },
  };
}

export function forkWork(request: RequestOf<'fork'>, { vms, saved, directories }: Things): Work {
  const { kind, file, confirmed, trust, directory, name, onDamage, requireSignature, ...options } = request;
  saved.entry(file);
  const folder = directory === undefined ? undefined : directories.file(directory, name ?? '');
  return {
    kind,
    title: `Fork ${file} into ${options.count}`,
    file,
    async run(context) {
      await assertConfirmed(file, confirmed, trust);
      const clones = await fork({
        file,
        trust: confirmed,
        ...options,
        ...defined({ dir: folder, onDamage, requireSignature }),
        ...signals(context),
      });
      const verdict = damageOf(await clones.verified);
      await clones.detach();
      for (const { facts } of clones.vms) vms.watch(facts.qmp);
      const { totalTimeMs } = clones;
      const result: ForkSummary = {
        directory: clones.directory,
        vms: clones.vms.map(({ facts }) => facts),
        totalTimeMs,
      };
      return { result, ...verdict };
    },
  };
}

/** What a check in the background has found, which is waited for: it ends with the connection to the VM. */
function damageOf(
  checked: { ok: boolean; problems: readonly { where: string; message: string }[] } | undefined,
): { verdict?: string } {
  if (checked === undefined || checked.ok) return {};
  return { verdict: checked.problems.map(({ where, message }) => `${where}: ${message}`).join('\n') };
}

function signals({ signal, onWarning }: WorkContext) {
  return { signal, onWarning };
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
