/** Reads one file as `inspect` or `verify` does and prints what was said of it and how much memory this process took. */
import { readFileSync } from 'node:fs';
import { errorReason } from '../../src/errors.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { verify } from '../../src/snapshot/verify/verify.js';

const [, , operation, file = ''] = process.argv;

async function said(read: () => Promise<{ problems: readonly unknown[] }>): Promise<string> {
  try {
    return JSON.stringify((await read()).problems.slice(0, 3));
  } catch (error) {
    return errorReason(error);
  }
}

const problems = await said(() =>
  operation === 'inspect' ? inspect({ file }) : verify({ file, contents: false }),
);
// Not that of `resourceUsage`, in which the peak of the parent lives on.
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
const peakMiB = Math.round(Number(peak?.[1]) / 1024);
console.log(JSON.stringify({ problems, peakMiB }));
