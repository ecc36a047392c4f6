import type { ServerResponse } from 'node:http';
import { compareSavedVms } from '../analysis/compare.js';
import { equalChunksOf } from '../analysis/equal-chunks.js';
import { openSavedVm } from '../analysis/open-saved-vm.js';
import { defined } from '../defined.js';
import { inspectSaved } from '../snapshot/inspect/inspect.js';
import { comparisonPage, inspectionPage } from '../snapshot/inspect/report.js';
import { send } from './reply.js';

/**
 * The page's own policy, in it, lets its own script and style in and nothing else. What it shows came from a file: in a sandbox
 * it could not use this server even if it ran.
 */
const POLICY = "sandbox allow-scripts; frame-ancestors 'none'";

/** Answers with the page that `mapram inspect --html` writes. Contents are looked at, a few seconds for large files. */
export async function sendReport(response: ServerResponse, file: string): Promise<void> {
  await sendPage(response, async (signal) => {
    await using saved = await openSavedVm(file, { signal });
    const inspection = await inspectSaved(saved, { signal });
    return await inspectionPage(saved, inspection, { signal });
  });
}

/** Answers with the page that `mapram diff --html` writes. */
export async function sendComparison(response: ServerResponse, before: string, after: string): Promise<void> {
  await sendPage(response, async (signal) => {
    await using older = await openSavedVm(before, { signal });
    await using newer = await openSavedVm(after, { signal });
    const equalChunks = await equalChunksOf(older, newer);
    const comparison = await compareSavedVms(older, newer, { ...defined({ equalChunks }), signal });
    return await comparisonPage([older, newer], comparison, { signal });
  });
}

/** @param make is cancelled when nobody waits for its page any more */
async function sendPage(
  response: ServerResponse,
  make: (signal: AbortSignal) => Promise<string>,
): Promise<void> {
  const abort = new AbortController();
  const leave = () => abort.abort();
  response.once('close', leave);
  try {
    const page = await make(abort.signal);
    send(response, 200, 'text/html; charset=utf-8', page, { 'Content-Security-Policy': POLICY });
  } finally {
    response.off('close', leave);
  }
}
