/** Turns a saved VM into another form: what `mapram convert` does. */

import * as v from 'valibot';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { assertOptions, flag, oneOf, optionsOf, path, text } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import type { OperationOptions } from '../../progress.js';
import { runOperation } from '../files/operation.js';
import { offset, participation } from '../files/option-kinds.js';
import { openOperand, savedOption } from '../store/open-saved.js';
import { convertToElf } from './convert-elf.js';
import { convertToLibvirt } from './convert-libvirt.js';
import { convertToMappedRam } from './convert-mapped-ram.js';
import { convertToRaw } from './convert-raw.js';
import { convertToStream } from './convert-stream.js';
import type { Conversion, ConvertTarget } from './convert-target.js';

/** Every form that there is. */
export const CONVERT_FORMS = ['mapped-ram', 'stream', 'raw', 'elf', 'libvirt'] as const;

export type ConvertForm = (typeof CONVERT_FORMS)[number];

const TARGETS: Readonly<Record<ConvertForm, ConvertTarget>> = {
  'mapped-ram': convertToMappedRam,
  stream: convertToStream,
  raw: convertToRaw,
  elf: convertToElf,
  libvirt: convertToLibvirt,
};

export interface ConvertOptions extends OperationOptions {
  /** A saved VM of any form: a path, `PLACE/NAME[@ID]` in a store, or one that is open. */
  file: string | SavedVm;
  /** The new file; of `raw` without `block` a directory. */
  output: string;
  to: ConvertForm;
  /** With `raw`: only this RAM block. */
  block?: string | undefined;
  /** With `libvirt`: name or UUID of the domain that was saved, whose XML is asked of the libvirt of this host (virsh). */
  domain?: string | undefined;
  /** With `libvirt`: the XML of the domain. By default that of a libvirt image. */
  domainXml?: string | undefined;
  /** Replace existing files, when the new ones are complete. */
  force?: boolean | undefined;
  /** Where in `file` the stream starts; found by itself at the start and behind libvirt's header. */
  offset?: number | undefined;
  /** What is wrong with `file`, where that does not keep it from being converted. */
  onWarning?: ((message: string) => void) | undefined;
}

const XML = 'the XML of a domain, as virsh dumpxml prints it';

const ConvertOptionsSchema = optionsOf<ConvertOptions>({
  file: savedOption,
  output: path,
  to: oneOf(CONVERT_FORMS),
  block: v.optional(text),
  domain: v.optional(text),
  domainXml: v.optional(v.pipe(v.string(XML), v.regex(/<domain[\s>]/, XML))),
  force: flag,
  offset,
  ...participation,
});

/**
 * @throws MapramError `EXISTS`, `UNSUPPORTED` where the form cannot hold the VM, `FORMAT`, `USAGE`, `IO`, `CANCELLED`; no half file is
 *   left
 */
export async function convert(options: ConvertOptions): Promise<Conversion> {
  assertOptions('convert', ConvertOptionsSchema, options);
  const { file, to, domain, domainXml } = options;
  if (to !== 'libvirt' && (domain ?? domainXml) !== undefined)
    throw new MapramError('USAGE', `convert: the XML of a domain is for the form libvirt, not for ${to}`);
  if (domain !== undefined && domainXml !== undefined)
    throw new MapramError('USAGE', 'convert: give either the domain or its XML');
  const name = typeof file === 'string' ? file : file.path;
  return runOperation(`converting ${name}`, name, options, async (guarded) => {
    const { onWarning, file: _, to, offset: _offset, ...options } = guarded;
    guarded.signal?.throwIfAborted();
    await using operand = await openOperand(file, guarded);
    const { saved } = operand;
    const conversion = await TARGETS[to].convert(saved, options);
    for (const problem of saved.problems) onWarning?.(`converting ${saved.path}: ${problem}`);
    return conversion;
  });
}

/** What each form is, for help texts. */
export function describeForms(): readonly { readonly name: string; readonly summary: string }[] {
  return Object.values(TARGETS);
}
