import { copyPages } from '../../analysis/copy-pages.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { fileOffset } from '../../branded.js';
import { MapramError } from '../../errors.js';
import { writeFully } from '../../io/file/positional-io.js';
import { withoutManifest } from '../../manifest/description-text.js';
import type { Container } from '../../mapped-ram/container.js';
import { ImageWriter, type ImageWriterBlock } from '../../mapped-ram/image-writer.js';
import { encodeLibvirtData, encodeLibvirtHeader } from '../../stream/libvirt-header.js';
import { concatenate } from '../../stream/stream-writer.js';
import type { ConvertTarget, ConvertTargetOptions } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/**
 * A mapped-ram file, with libvirt's header if there is one. From another one it is a compact copy: the same bytes at the same places, but for stale slots and
 * pages that are zero, which become holes.
 */
export const convertToMappedRam: ConvertTarget = {
  name: 'mapped-ram',
  summary: 'a mapped-ram file; from one that is, a compact copy without stale slots',
  async convert(saved, options) {
    refuseUnlessWhole(saved, options);
    const { converted } = await writeConverted(options.output, options, (fd, path) =>
      writeImage(saved, fd, path, options),
    );
    return { files: [converted], notes: [] };
  },
};

/** Refuses what cannot be a mapped-ram file. */
export function refuseUnlessWhole(saved: SavedVm, { block }: ConvertTargetOptions): void {
  const { path, complete, problems, configuration } = saved;
  const why = (code: 'USAGE' | 'FORMAT' | 'UNSUPPORTED', reason: string) =>
    new MapramError(code, `converting ${path} to mapped-ram: ${reason}`, { path });
  if (block !== undefined) throw why('USAGE', 'the whole VM is converted; --block is for --to raw');
  if (!complete) throw why('FORMAT', `its save did not finish: ${problems.join('; ')}`);
  if (problems.length > 0) throw why('FORMAT', problems.join('; '));
  if (configuration.machine === '') {
    throw why('UNSUPPORTED', 'its machine type is too old for mapped-ram, the stream has no configuration');
  }
}

/** @param newHead what is to be in front of the stream, in place of what is there */
export async function writeImage(
  saved: SavedVm,
  fd: number,
  path: string,
  options: ConvertTargetOptions,
  newHead?: Uint8Array,
): Promise<void> {
  const { configuration, container, blocks, pageSize, ramSectionId, tail } = saved;
  const isMappedRam = saved.form === 'mapped-ram';
  const same = isMappedRam && newHead === undefined;
  // What is in front of a mapped-ram stream (a libvirt header, a page of the user's) belongs to the file: offsets
  // inside the stream count from there.
  const head = newHead ?? (same ? undefined : sparseHead(container));
  const offset = head?.byteLength ?? (same ? container.offset : 0);
  if (head !== undefined) writeFully(fd, head, 0);
  else if (offset > 0) await copyHead(saved, fd, offset);
  const capabilities = isMappedRam
    ? configuration.capabilities
    : [...configuration.capabilities, 'mapped-ram'];
  const writer = await ImageWriter.create({
    ...{ fd, path, offset, pageSize, ramSectionId },
    configuration: { ...configuration, capabilities },
    blocks,
  });
  await writer.writeStart();
  await writer.writeSections(saved.earlySectionBytes);
  // A stream's later rounds are merged into one image.
  for (let round = 0; round < (same ? saved.rounds : 1); round++) await writer.writePart();
  const ranges = blocks.map((block) => {
    const { pagesOffset, usedLength } = writer.block(block.idstr) as ImageWriterBlock;
    return { block, offset: 0, length: usedLength, position: pagesOffset };
  });
  await copyPages(saved, ranges, fd, options);
  // Pages that are marked as written although they are zero stay marked: a manifest covers the bitmaps.
  for (const block of blocks) {
    const { bitmap } = writer.block(block.idstr) as ImageWriterBlock;
    for (const { first, count } of saved.runs(block)) bitmap.setRange(first, count);
  }
  await writer.writeEnd({ switchoverStart: saved.switchoverStart });
  await writer.writeSections(tail.sectionBytes);
  // A manifest tells where things are in its own file.
  const description = tail.descriptionText;
  await writer.finish(same || description === undefined ? description : await withoutManifest(description));
}

/** The header of a libvirt image, for what its stream becomes: libvirt calls mapped-ram `sparse`. */
function sparseHead({ libvirt }: Container): Uint8Array | undefined {
  if (libvirt === undefined) return undefined;
  const { header } = libvirt;
  return concatenate([
    encodeLibvirtHeader({ ...header, format: 'sparse' }),
    encodeLibvirtData(header, libvirt),
  ]);
}

const HEAD_CHUNK_BYTES = 2 ** 20;

async function copyHead(saved: SavedVm, fd: number, length: number): Promise<void> {
  for (let at = 0; at < length; ) {
    const bytes = await saved.source.read(fileOffset(at), Math.min(HEAD_CHUNK_BYTES, length - at));
    if (bytes.byteLength === 0) return;
    writeFully(fd, bytes, at);
    at += bytes.byteLength;
  }
}
