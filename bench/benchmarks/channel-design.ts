import type { Benchmark, Sample } from '../benchmark.js';
import { type ChannelSave, saveByChannels } from '../channel-save.js';
import { StripedMemory } from '../striped-memory.js';

const CHANNELS = 2;

/** Each differs from what `mapram save` does in one thing. */
const variants: readonly { name: string; differs: Partial<ChannelSave> }[] = [
  { name: 'as it is', differs: {} },
  { name: 'one channel', differs: { channels: 1 } },
  { name: 'four channels', differs: { channels: 4 } },
  { name: 'each write waited for', differs: { ioDepth: 0 } },
  { name: 'each write waited for, four channels', differs: { ioDepth: 0, channels: 4 } },
  { name: 'two writes under way in each channel', differs: { ioDepth: 2 } },
  { name: 'eight', differs: { ioDepth: 8 } },
  { name: 'RAM copied into a buffer, not mapped', differs: { copy: true } },
  { name: 'size set at the end', differs: { sized: false } },
  { name: 'blocks reserved in pieces, between writes', differs: { reserve: 'pieces' } },
  { name: 'the same, size set at the end', differs: { reserve: 'pieces', sized: false } },
  { name: 'no blocks reserved', differs: { reserve: 'never' } },
  { name: 'writes of 512 KiB', differs: { ioSize: 512 * 1024, checksums: 'none' } },
  { name: 'writes of 16 MiB', differs: { ioSize: 16 * 2 ** 20 } },
  { name: 'without checksums', differs: { checksums: 'none' } },
  { name: 'SHA-256', differs: { checksums: 'sha256-128' } },
  { name: 'one thread looks for zero pages', differs: { zeroPageDetection: 'legacy' } },
  { name: 'through the page cache', differs: { direct: false } },
];

export const channelDesign: Benchmark = {
  name: 'channel-design',
  title: 'What the design of the channels is worth',
  description:
    'Channels alone, 2 of them, 2 GiB of memory (quick: 512 MiB), a quarter of it zero, from the first page to the end of the sync; each line differs from the first in one thing.',
  async prepare({ folder, quick }) {
    const memory = StripedMemory.make(quick ? 512 : 2048, 25);
    return {
      contenders: variants.map(({ name, differs }) => ({
        name,
        group: name,
        async run(): Promise<Sample> {
          const before = process.cpuUsage();
          const seconds = await saveByChannels({ memory, folder, channels: CHANNELS, ...differs });
          const { user, system } = process.cpuUsage(before);
          return { seconds, cpuSeconds: (user + system) / 1e6 };
        },
      })),
      bytes: memory.dataBytes,
      [Symbol.asyncDispose]: async () => memory[Symbol.dispose](),
    };
  },
};
