/** A mapped-ram file from which VMs are to be resumed: opened, checked, and turned into what QEMU needs. */

import { createHash } from 'node:crypto';
import { constants, realpathSync } from 'node:fs';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { networkFileSystem } from '../../io/file/file-system.js';
import { FileWatch } from '../../io/file/file-watch.js';
import { releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { readFully, writeFully } from '../../io/file/positional-io.js';
import { createMemfd } from '../../io/memory/memfd.js';
import { hostMemory, mayOvercommit } from '../../io/process/host-memory.js';
import { canonicalJson } from '../../launch/launch-mac.js';
import type { LaunchRecord } from '../../launch/launch-record.js';
import type { SnapshotShape } from '../../launch/resume-command-line.js';
import { readPublicKey } from '../../manifest/signature.js';
import { checkImage } from '../../mapped-ram/check-image.js';
import { MappedRamImage } from '../../mapped-ram/image.js';
import { savedRunState } from '../../stream/global-state.js';
import { assertMappedAsSaved, type CheckedMemory, type MemoryCheck } from '../checks/memory-after-load.js';
import { type WrittenPages, writtenBeforeLoad } from '../checks/written-before-load.js';
import { DEFAULT_CHANNELS } from '../files/channel-numbers.js';
import { CheckedFile } from '../files/checked-file.js';
import { chooseDirectIo } from '../files/direct-io-choice.js';
import { layoutOfLazyFile } from '../lazy/lazy-layout.js';
import { LazyWatch } from '../lazy/lazy-watch.js';
import type { LazyCopyOptions } from '../store/local-copy.js';
import { mappableFile } from '../store/local-file.js';
import type { VerifiedFile } from '../verify/verify.js';
import { type PrefetchMode, prefetch, prefetchRanges } from './prefetch.js';
import { type LaunchTrust, recordedLaunch, trustIn } from './recorded-launch.js';
import { pageRecords, type StatePatch, type StateStream, writeStateStream } from './state-stream.js';

/** What must hold before any VM sees the file. */
export interface SourceCheckOptions {
  requireSignature?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** The device state as a stream, in memory, for any number of QEMUs. */
export interface PreparedState extends StateStream, Disposable {
  /**
   * The stream for the QEMU that waits in process `pid`, or in one that this has started: with the pages that it has written to
   * already, and with `patches`.
   *
   * @returns a descriptor at its start, which the caller closes, and these pages
   * @throws MapramError `UNSUPPORTED` when nobody can tell which pages these are
   */
  openFor(
    pid: number,
    patches?: readonly StatePatch[],
  ): Promise<{ fd: number; resent: readonly WrittenPages[] }>;
  /** Holds the memory of that QEMU, which has taken the stream, against the file: see `assertMappedAsSaved`. */
  assertLoaded(
    pid: number,
    how: MemoryCheck,
    resent: readonly WrittenPages[],
  ): Promise<CheckedMemory | undefined>;
}

export class ResumeSource implements AsyncDisposable {
  private constructor(
    readonly image: MappedRamImage,
    private readonly checked: CheckedFile,
  ) {}

  /**
   * @param from the path of a file, or `PLACE/NAME[@ID]`: then a copy of it in the cache
   * @throws MapramError `FORMAT` for a file that is damaged, unfinished or something else, `VM` for one that is replaced meanwhile;
   *   whatever a pull throws
   */
  static async open(
    from: string,
    options: { offset?: number | undefined } & LazyCopyOptions = {},
  ): Promise<ResumeSource> {
    const file = await mappableFile(from, options);
    const image = await MappedRamImage.open(file, { offset: options.offset });
    try {
      assertSound(image);
      const checked = CheckedFile.of(image, realpathSync(file));
      // The path may have come to mean another file since it was opened.
      checked.assertUnchanged('resuming');
      return new ResumeSource(image, checked);
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /** Absolute path without symbolic links. */
  get file(): string {
    return this.checked.path;
  }

  /** Whether a command line that is recorded in the file may be run. */
  trustIn(launch: LaunchRecord): Promise<LaunchTrust> {
    return trustIn(this.image, this.checked, launch);
  }

  /** Stands for all that this file says about what is to be run, and for the file as it is. */
  get fingerprint(): string {
    const text = canonicalJson({
      identity: this.checked.identity,
      launch: recordedLaunch(this.image) ?? null,
      shape: this.shape,
    });
    return createHash('sha256').update(text).digest('hex');
  }

  /** What a command line must fit. */
  get shape(): SnapshotShape {
    const { image, file } = this;
    const manifest = image.manifest as { defaultRamId?: unknown } | undefined;
    const { defaultRamId } = manifest ?? {};
    const largest = Math.max(0, ...image.blocks.map(({ usedLength }) => usedLength));
    const processors = image.devices.filter(({ idstr }) => idstr === 'cpu_common').length;
    return {
      file,
      machine: image.configuration.machine,
      blocks: image.blocks.map(({ idstr, usedLength, pagesOffset }) => ({ idstr, usedLength, pagesOffset })),
      ...defined({ processors: processors || undefined }),
      ...defined({ defaultRamId: typeof defaultRamId === 'string' ? defaultRamId : undefined }),
      reserve: largest <= (hostMemory() ?? Number.POSITIVE_INFINITY) || !mayOvercommit(),
    };
  }

  /** The state that the guest takes up when it is loaded; undefined where the file leaves it open. */
  get runState(): string | undefined {
    return savedRunState(this.image.tail.sections);
  }

  /**
   * Whether libvirt is to let the guest run that the file says is paused: libvirt pauses every domain before QEMU saves it, and
   * its header tells what the domain did before.
   */
  get ranUnderLibvirt(): boolean {
    return this.image.container.libvirt?.header.wasRunning === true;
  }

  /**
   * Holds headers, bitmaps and device state against what was saved, where the file tells; with a required signature all
   * memory too.
   *
   * @param options.requireSignature path of the public key by whose private key the file must be signed
   * @throws MapramError `FORMAT` for a file that is damaged or not signed so, `USAGE` for a key that cannot be used, `UNTRUSTED` where a
   *   signature is required and others may write to the file
   */
  async assertVerified({ requireSignature, signal }: SourceCheckOptions): Promise<VerifiedFile> {
    const startedAt = performance.now();
    const requiredKey = requireSignature === undefined ? undefined : readPublicKey(requireSignature);
    if (requiredKey) this.checked.assertOnlyOwn('resuming');
    // Loaded while QEMU starts, which a VM would otherwise wait for.
    const { assertVerified } = await import('../verify/verify.js');
    const { manifest: _, ...verification } = await assertVerified(this.image, {
      contents: false,
      ...defined({ requiredKey }),
      direct: requiredKey !== undefined && chooseDirectIo(this.file, 'auto').directIo,
      channels: DEFAULT_CHANNELS,
      ...defined({ signal }),
    });
    return { ok: true, ...verification, totalTimeMs: Math.round(performance.now() - startedAt) };
  }

  /** The same file as an image of its own, which the caller closes. */
  async openImage(): Promise<MappedRamImage> {
    const { offset } = this.image.container;
    return await MappedRamImage.reopen(this.checked.fd, this.file, { offset });
  }

  /** A caution where the file lies, if any. */
  get warning(): string | undefined {
    if (layoutOfLazyFile(this.file) !== undefined) return undefined;
    const network = networkFileSystem(this.file);
    return network === undefined
      ? undefined
      : `${this.file} lies on ${network}: a page that cannot be read later ends the VM; copy the file to a local disk first`;
  }

  /** Makes the stream for QEMUs that have the blocks called `mapped` from this file. */
  async prepareState(mapped: readonly string[]): Promise<PreparedState> {
    const memfd = createMemfd('mapram device state', 0);
    try {
      const stream = await writeStateStream(this.image, this.checked.fd, memfd, ({ idstr }) =>
        mapped.includes(idstr) ? 'mapped' : 'fresh',
      );
      return {
        ...stream,
        openFor: async (pid, patches = []) => {
          const written = await writtenBeforeLoad(this.image, this.checked, pid, mapped);
          const pages = await pageRecords(this.image, written);
          const fd =
            patches.length === 0 && pages.byteLength === 0
              ? reopenFile(memfd, constants.O_RDONLY)
              : changedCopy(memfd, stream, pages, patches);
          return { fd, resent: written };
        },
        assertLoaded: (pid, how, resent) =>
          assertMappedAsSaved(this.image, this.checked, how, { pid, mapped, resent }),
        [Symbol.dispose]: () => releaseFiles([memfd]),
      };
    } catch (error) {
      releaseFiles([memfd]);
      throw error;
    }
  }

  /**
   * Begins to read ahead. The reading goes on when this is disposed of, and does not fail.
   *
   * @returns how many bytes were read, in the end
   */
  async prefetch(mode: PrefetchMode = 'recorded', signal?: AbortSignal): Promise<number> {
    const { image, file } = this;
    try {
      return await prefetch(file, prefetchRanges(image, file, mode), signal);
    } catch {
      return 0;
    }
  }

  /**
   * Makes sure that the file is still what it was when it was opened: the QEMUs have mapped its name, the state was read
   * before.
   *
   * @throws MapramError `VM`
   */
  assertUnchanged(): void {
    this.checked.assertUnchanged('resuming');
  }

  /** From now on a warning when the file is changed although VMs run from it; also after this was disposed of. */
  watch(onWarning: (message: string) => void): Disposable {
    const { file } = this;
    const layout = layoutOfLazyFile(file);
    if (layout !== undefined) return new LazyWatch(layout, onWarning);
    return new FileWatch(this.checked.fd, (change) => {
      onWarning(
        change === 'cut'
          ? `${file} was cut short while VMs run from it: they end with SIGBUS as soon as they want a page that is gone; end them and do not trust what they wrote`
          : `${file} was written to while VMs run from it: memory that they have not changed themselves may change under them; end them and do not trust what they wrote`,
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.image.close();
  }
}

/** @param pages records to be put in where those of the stream end */
function changedCopy(
  memfd: number,
  { byteLength, pagesEnd, sectionsPosition }: StateStream,
  pages: Uint8Array,
  patches: readonly StatePatch[],
): number {
  const bytes = Buffer.allocUnsafe(byteLength);
  readFully(memfd, bytes, 0);
  for (const { position, bytes: replacement } of patches) bytes.set(replacement, sectionsPosition + position);
  const copy = createMemfd('mapram device state', 0);
  try {
    writeFully(copy, bytes.subarray(0, pagesEnd), 0);
    writeFully(copy, pages, pagesEnd);
    writeFully(copy, bytes.subarray(pagesEnd), pagesEnd + pages.byteLength);
    return reopenFile(copy, constants.O_RDONLY);
  } finally {
    releaseFiles([copy]);
  }
}

function assertSound(image: MappedRamImage): void {
  const problem = image.complete ? checkImage(image).find(({ fatal }) => fatal)?.message : image.problems[0];
  if (image.complete && problem === undefined) return;
  throw new MapramError('FORMAT', `resuming ${image.path}: ${problem ?? 'the save did not finish'}`, {
    path: image.path,
  });
}
