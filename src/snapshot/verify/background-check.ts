/** Holds a file against its checksums while VMs run from it already, so that resuming takes no longer. */
import * as v from 'valibot';
import { flag, type OptionEntries, oneOf } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import { chooseDirectIo } from '../files/direct-io-choice.js';
import { withFileErrors } from '../files/file-errors.js';
import type { ResumeSource } from '../resume/resume-source.js';
import type { VerifiedFile } from './verify.js';

export interface BackgroundCheckOptions {
  /** Read all memory and hold it against its checksums, in the background while the guest runs; false by default. */
  verify?: boolean | undefined;
  /** What becomes of a guest that is found to run from damaged memory: it is stopped, by default, or runs on. */
  onDamage?: 'stop' | 'continue' | undefined;
}

export const backgroundCheckEntries: OptionEntries<BackgroundCheckOptions> = {
  verify: flag,
  onDamage: v.optional(oneOf(['stop', 'continue'])),
};

/** A VM whose guest is stopped when the memory that it runs from turns out to be damaged. */
interface Stoppable {
  stop(): Promise<void>;
}

/** Few: the guest has the disk for itself as far as possible. */
const CHANNELS = 2;

export class BackgroundCheck {
  private constructor(
    /** Rejects only when the file cannot be read at all, or with `CANCELLED`. */
    readonly result: Promise<VerifiedFile>,
    private readonly abort: AbortController,
  ) {}

  /**
   * Begins the check if one is wanted and was not made before the VMs were started.
   *
   * @param source may be disposed of afterwards
   * @param options.onWarning gets what could not be checked, and the damage in one sentence
   * @param before what was found before
   */
  static async after(
    source: ResumeSource,
    vms: readonly Stoppable[],
    options: BackgroundCheckOptions & { onWarning?: ((message: string) => void) | undefined },
    before?: VerifiedFile,
  ): Promise<BackgroundCheck | undefined> {
    const { verify = false, onDamage = 'stop', onWarning } = options;
    if (before !== undefined) return new BackgroundCheck(Promise.resolve(before), new AbortController());
    if (!verify) return undefined;
    const { problemsInWords, verifyImage } = await import('./verify.js');
    const abort = new AbortController();
    const image = await source.openImage();
    const check = async (): Promise<VerifiedFile> => {
      await using _ = image;
      const startedAt = performance.now();
      const { manifest: _manifest, ...found } = await verifyImage(image, {
        direct: chooseDirectIo(source.file, 'auto').directIo,
        channels: CHANNELS,
        signal: abort.signal,
      });
      const ok = found.problems.length === 0;
      for (const note of found.notes) onWarning?.(`${source.file}: ${note}`);
      if (!ok) {
        const stopped = onDamage === 'stop';
        if (stopped) await Promise.allSettled(vms.map((vm) => vm.stop()));
        onWarning?.(
          `${source.file} is damaged, and VMs run from it: ${problemsInWords(found.problems)}; ${stopped ? 'their guests were stopped ("cont" lets them go on)' : 'their guests run on'}`,
        );
      }
      return { ok, ...found, totalTimeMs: Math.round(performance.now() - startedAt) };
    };
    const result = withFileErrors(`verifying ${source.file}`, source.file, check);
    // Whoever does not ask for the result is not to die of it.
    result.catch(() => {});
    return new BackgroundCheck(result, abort);
  }

  /** Gives up, if it is not through; nothing is said about the file then. */
  async cancel(): Promise<void> {
    this.abort.abort(new MapramError('CANCELLED', 'checking the file in the background: cancelled'));
    await this.result.catch(() => {});
  }
}
