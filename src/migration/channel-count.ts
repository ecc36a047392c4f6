import { MAXIMUM_FILE_CHANNELS } from '../channels/file/file-channels.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';

/** Without multifd QEMU's main channel moves the pages: one. More than 16 threads have never helped a disk. */
export function channelCount(
  parameters: Pick<MigrationParameters, 'multifd-channels'>,
  capabilities: Pick<MigrationCapabilities, 'multifd'>,
): number {
  return capabilities.multifd ? Math.min(parameters['multifd-channels'], MAXIMUM_FILE_CHANNELS) : 1;
}
