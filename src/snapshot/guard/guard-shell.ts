/**
 * The process of a guard. A shell does the waiting, and becomes a Node.js with the code that puts things right only where there is
 * something to put right: everybody would otherwise wait for a second Node.js to start on the same processors.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { workerScript } from '../../io/worker-script.js';

/** A line on standard input means that all is well; its end without one, that whoever held it is dead. */
const WAIT = 'trap "" HUP INT TERM; read -r _ || exec "$@"';
const ALL_IS_WELL = '\n';

export class GuardShell {
  readonly #process: ChildProcess;

  /**
   * Does not wait for the guard to be up: its standard input ends for it even if this process is killed before.
   *
   * @param record the path of what it is to put right
   */
  constructor(record: string) {
    const script = fileURLToPath(workerScript('guard-process', import.meta.url));
    this.#process = spawn('/bin/sh', ['-c', WAIT, 'mapram-guard', process.execPath, script, record], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    });
    // Without a guard the record is left for `mapram doctor`.
    this.#process.on('error', () => {});
    this.#process.stdin?.on('error', () => {});
    this.#process.unref();
    (this.#process.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  /** There is nothing to guard any more. */
  dismiss(): void {
    this.#process.stdin?.end(ALL_IS_WELL);
  }

  /** It is to act now. */
  release(): void {
    this.#process.stdin?.destroy();
  }
}
