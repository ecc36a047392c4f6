import type { SavedVm } from '../../analysis/saved-vm.js';
import type { OperationOptions } from '../../progress.js';
import type { Bytes } from '../../units.js';

/** A form that saved VMs can be turned into. */
export interface ConvertTarget {
  /** As in `--to NAME`. */
  readonly name: string;
  /** For help texts. */
  readonly summary: string;
  /**
   * Writes `saved` in this form.
   *
   * @throws MapramError `EXISTS`, `UNSUPPORTED` where the form cannot hold it, `FORMAT`, `IO`, `CANCELLED`; no half
   *   file is left
   */
  convert(saved: SavedVm, options: ConvertTargetOptions): Promise<Conversion>;
}

export interface ConvertTargetOptions extends OperationOptions {
  /** Path of the new file, or of a directory where the form is several files. */
  readonly output: string;
  /** One RAM block instead of all, where the form can do so. */
  readonly block?: string | undefined;
  /** For libvirt: name or UUID of the domain, whose XML is asked for; or the XML. By default that of a libvirt image. */
  readonly domain?: string | undefined;
  readonly domainXml?: string | undefined;
  /** Replace existing files, when the new ones are complete. */
  readonly force?: boolean | undefined;
}

/** What became of a conversion. Sizes in bytes. */
export interface Conversion {
  readonly files: readonly ConvertedFile[];
  /** What people should know, e.g. what could not be taken along. */
  readonly notes: readonly string[];
}

export interface ConvertedFile {
  readonly file: string;
  readonly fileBytes: Bytes;
  /** What it takes on the disk; holes take nothing. */
  readonly allocatedBytes: Bytes;
  /** The block in it, where there is only one. */
  readonly block?: string;
}
