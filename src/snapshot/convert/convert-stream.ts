import type { SavedBlock, SavedVm } from '../../analysis/saved-vm.js';
import { MapramError } from '../../errors.js';
import { writeFully } from '../../io/file/positional-io.js';
import { streamPartsOf } from '../../migration/outputs/stream-of-image.js';
import { ProgressMeter } from '../../progress-meter.js';
import {
  BLOCK_NAME_BYTES,
  PAGE_WORD_BYTES,
  RecordEncoder,
  ZERO_RECORD_BYTES,
} from '../../stream/page-records.js';
import type { ConvertOptions, ConvertTarget } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/** Pages whose records are written at once. */
const PAGES_AT_ONCE = 1024;

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

function refuse({ path, complete, problems, configuration }: SavedVm, { block }: ConvertOptions): void {
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
  { signal, onProgress }: ConvertOptions,
): Promise<void> {
  const parts = streamPartsOf(saved, { marks: 'none', switchoverStart: true });
  const records = new RecordEncoder();
  const buffer = Buffer.alloc(BLOCK_NAME_BYTES + PAGES_AT_ONCE * (PAGE_WORD_BYTES + saved.pageSize));
  const meter = new ProgressMeter();
  const totalBytes = saved.blocks.reduce((total, { usedLength }) => total + usedLength, 0);
  let position = 0;
  let bytes = 0;
  const write = (data: Uint8Array) => {
    writeFully(fd, data, position);
    position += data.length;
  };
  write(parts.opening);
  for (const block of saved.blocks) {
    const { idstr, pageSize } = block;
    for (const { first, count, zero } of everyRun(saved, block)) {
      signal?.throwIfAborted();
      const offset = first * pageSize;
      const end = zero
        ? records.zeroPages(buffer, 0, idstr, offset, count, pageSize)
        : records.pages(buffer, 0, idstr, offset, await saved.readPages(block, first, count), pageSize);
      write(buffer.subarray(0, end));
      bytes += count * pageSize;
      onProgress?.(meter.report('RAM', { bytes, totalBytes, pages: bytes / pageSize, channels: [] }));
    }
  }
  write(parts.closing);
}

interface Run {
  first: number;
  count: number;
  zero: boolean;
}

/** All pages of a block in order, in runs that fit the buffer. */
function* everyRun(saved: SavedVm, block: SavedBlock): Generator<Run> {
  let next = 0;
  for (const { first, count } of saved.runs(block, PAGES_AT_ONCE)) {
    yield* zeroRuns(next, first, block.pageSize);
    yield { first, count, zero: false };
    next = first + count;
  }
  yield* zeroRuns(next, block.pageCount, block.pageSize);
}

/** Records of zero pages are short, but a run of them can be as long as memory. */
function* zeroRuns(from: number, to: number, pageSize: number): Generator<Run> {
  const most = Math.floor((PAGES_AT_ONCE * pageSize) / ZERO_RECORD_BYTES);
  for (let first = from; first < to; first += most) {
    yield { first, count: Math.min(most, to - first), zero: true };
  }
}
