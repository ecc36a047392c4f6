import type { ServerResponse } from 'node:http';
import { openSavedVm } from '../analysis/open-saved-vm.js';
import { inspectSaved } from '../snapshot/inspect/inspect.js';
import { inspectionPage } from '../snapshot/inspect/report.js';
import { send } from './reply.js';

/**
 * The page's own policy, in it, lets its own script and style in and nothing else. What it shows came from a file: in a sandbox
 * it could not use this server even if it ran.
 */
const POLICY = "sandbox allow-scripts; frame-ancestors 'none'";

/** Answers with the page that `mapram inspect --html` writes. Contents are looked at, a few seconds for large files. */
export async function sendReport(response: ServerResponse, file: string): Promise<void> {
  const abort = new AbortController();
  const leave = () => abort.abort();
  response.once('close', leave);
  try {
    await using saved = await openSavedVm(file, { signal: abort.signal });
    const inspection = await inspectSaved(saved, { signal: abort.signal });
    const page = await inspectionPage(saved, inspection, { signal: abort.signal });
    send(response, 200, 'text/html; charset=utf-8', page, { 'Content-Security-Policy': POLICY });
  } finally {
    response.off('close', leave);
  }
}
