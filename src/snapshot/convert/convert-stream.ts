import type { SavedBlock, SavedVm } from '../../analysis/saved-vm.js';
import { MapramError } from '../../errors.js';
import { writeFully } from '../../io/file/positional-io.js';
import {
  type SavedStretch,
  savedPages,
  stretchesOf,
  writePlainStream,
} from '../../migration/outputs/plain-stream.js';
import { ProgressMeter } from '../../progress-meter.js';
import { streamOfSaved } from '../../stream/stream-frame.js';
import type { ConvertTarget, ConvertTargetOptions } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/** An ordinary migration stream, as `migrate exec:cat` writes it: what any QEMU loads with `-incoming`. */
export const convertToStream: ConvertTarget = {
  name: 'stream',
  summary: 'an ordinary migration stream, for QEMUs without mapped-ram: -incoming "exec:cat OUT"',
  async convert(saved, options) {
    refuse(saved, options);
    const { converted } = await writeConverted(options.output, options, (fd) =>
      writeStream(saved, fd, options),
    );
    return { files: [converted], notes: [] };
  },
};

function refuse({ path, complete, problems, configuration }: SavedVm, { block }: ConvertTargetOptions): void {
  const why = (code: 'USAGE' | 'FORMAT' | 'UNSUPPORTED', reason: string) =>
    new MapramError(code, `converting ${path} to a stream: ${reason}`, { path });
  if (block !== undefined) throw why('USAGE', 'the whole VM is converted; --block is for --to raw');
  if (!complete) throw why('FORMAT', `its save did not finish: ${problems.join('; ')}`);
  if (problems.length > 0) throw why('FORMAT', problems.join('; '));
  if (configuration.machine === '')
    throw why('UNSUPPORTED', 'it has no configuration and is a stream already');
  if (configuration.capabilities.includes('x-ignore-shared')) {
    throw why('UNSUPPORTED', 'it was saved with x-ignore-shared and holds only part of the memory');
  }
}

async function writeStream(
  saved: SavedVm,
  fd: number,
  { signal, onProgress }: ConvertTargetOptions,
): Promise<void> {
  const meter = new ProgressMeter();
  const { blocks, pageSize } = saved;
  const totalBytes = blocks.reduce((total, { usedLength }) => total + usedLength, 0);
  let position = 0;
  let pages = 0;
  await writePlainStream({
    ...streamOfSaved(saved),
    pages: savedPages(saved, allPages(saved)),
    write(bytes) {
      writeFully(fd, bytes, position);
      position += bytes.length;
    },
    onPages({ offsets, zeros }) {
      signal?.throwIfAborted();
      pages += zeros.reduce((total, { count }) => total + count, offsets.length);
      onProgress?.(meter.report('RAM', { bytes: pages * pageSize, totalBytes, pages, channels: [] }));
    },
  });
}

function* allPages(saved: SavedVm): Generator<SavedStretch<SavedBlock>> {
  for (const block of saved.blocks) yield* stretchesOf(block, 0, block.pageCount, saved.runs(block));
}
