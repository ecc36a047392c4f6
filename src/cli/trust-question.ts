/** The question whether a command line out of a file may be run, where somebody is there to answer it. */
import { createInterface } from 'node:readline/promises';
import { MapramError } from '../errors.js';
import { quoteForShell } from '../launch/command-line.js';
import type { LaunchOptions } from '../snapshot/resume/launch-options.js';
import { planResume, type ResumePlan } from '../snapshot/resume/resume.js';
import { visibleLine } from '../visible.js';
import type { CommandContext } from './command.js';

/**
 * Starts what `request` says. Where its command line is not known to be this user's it is shown, and started after a yes.
 *
 * @param request also of clones: what is shown is the command line that they are made from
 */
export async function startTrusted<Options extends LaunchOptions, Started>(
  request: Options,
  context: CommandContext,
  start: (request: Options) => Promise<Started>,
): Promise<Started> {
  try {
    return await start(request);
  } catch (error) {
    const terminal = process.stdin.isTTY && process.stderr.isTTY;
    if (!(error instanceof MapramError) || error.code !== 'UNTRUSTED' || !terminal || context.json)
      throw error;
    // The signature is checked when it is started.
    const shown: LaunchOptions = { ...request };
    delete shown.requireSignature;
    const plan = await planResume(shown);
    if (plan.trust.origin !== 'unknown' || !(await agreed(request.file, plan, context.signal))) throw error;
    return await start({ ...request, trust: plan.fingerprint });
  }
}

async function agreed(file: string, plan: ResumePlan, signal: AbortSignal): Promise<boolean> {
  process.stderr.write(
    `${quoteForShell([file])} says how its VM was started, and somebody else may have written that: ${visibleLine(plan.trust.reason ?? '')}.
This would be run in ${quoteForShell([plan.workingDirectory])}:

${quoteForShell(plan.command)}

`,
  );
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question('Run it? [y/N] ', { signal })).trim());
  } finally {
    terminal.close();
  }
}
