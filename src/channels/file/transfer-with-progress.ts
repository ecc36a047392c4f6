import type { ProgressEvent } from '../../progress.js';
import { ProgressMeter } from '../../progress-meter.js';
import type { FileChannels } from './file-channels.js';

export interface ProgressOptions {
  /** Its name in the events. */
  phase: string;
  /** Of the pages that will be moved. */
  totalBytes: number;
  /** How often, in ms; 200 by default. */
  everyMs?: number | undefined;
  onProgress?: ((event: ProgressEvent) => void) | undefined;
}

/** A pass over everything, told of on the way and once at its end. */
export async function transferWithProgress(
  channels: FileChannels,
  { phase, totalBytes, everyMs = 200, onProgress }: ProgressOptions,
): Promise<void> {
  const meter = new ProgressMeter();
  const report = () => {
    const shares = channels.progress();
    onProgress?.(
      meter.report(phase, {
        bytes: shares.reduce((total, { bytes }) => total + bytes, 0),
        totalBytes,
        pages: shares.reduce((total, { normalPages }) => total + normalPages, 0),
        channels: shares.map(({ channel, bytes }) => ({ id: channel, bytes })),
      }),
    );
  };
  const ticker = setInterval(report, everyMs);
  try {
    await channels.transfer();
  } finally {
    clearInterval(ticker);
  }
  report();
}
