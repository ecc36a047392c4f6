/** Logs of processes that outlive this one, and that their guests can make write without end. */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { closeFile, openFile, releaseFiles } from '../io/file/open-file.js';
import { openPipe } from '../io/socket/pipe.js';

export const LOG_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;

export interface LimitedLog {
  /** Takes what is to be written. The caller closes it. */
  fd: number;
  /** Resolves when all writers have closed it and everything is in the file. */
  complete: Promise<void>;
}

/** Keeps `$1` bytes of its input, says that more has come, and takes the rest without keeping it: a full pipe would stop the writer. */
const KEEP = `head -c "$1"; if [ "$(head -c 1 | wc -c)" -eq 1 ]; then printf '\\nmapram: more was written, which is left out\\n'; exec cat >/dev/null; fi`;

/** A log at `file` of about `limit` bytes at most. A process of its own writes it, which ends with the last writer. */
export function openLimitedLog(file: string, limit: number): LimitedLog {
  const log = openFile(file, LOG_FLAGS);
  const { readEnd, writeEnd } = openPipe();
  try {
    const child = spawn('sh', ['-c', KEEP, 'sh', String(limit)], {
      stdio: [readEnd, log, 'ignore'],
      detached: true,
    });
    child.unref();
    const complete = new Promise<void>((resolve) => {
      child.once('error', () => resolve());
      child.once('close', () => resolve());
    });
    return { fd: writeEnd, complete };
  } catch (error) {
    closeFile(writeEnd);
    throw error;
  } finally {
    releaseFiles([log, readEnd]);
  }
}
