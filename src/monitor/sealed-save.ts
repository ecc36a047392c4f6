/** The manifest of files that are saved through a monitor. */
import { constants } from 'node:fs';
import { closeFile, reopenFile } from '../io/file/open-file.js';
import { type SealOptions, sealImage } from '../manifest/seal.js';
import type { MigrationFile } from '../migration/migration-file.js';
import type { OutgoingOptions } from '../migration/outgoing.js';
import type { FileOutputOptions } from '../migration/outputs/file-output.js';

/**
 * Options that give the file of a migration its manifest before the migration completes: with checksums where mapram
 * copies the memory itself, without them where pages come by a stream, which would have to be read again. A file that
 * cannot be opened for reading (a write-only descriptor to what is not ours) gets none.
 *
 * @param facts asked for when all is taken
 * @param copies whether the engine copies the memory
 */
export function sealing(
  file: MigrationFile,
  facts: () => SealOptions['facts'],
  copies: boolean,
): Pick<FileOutputOptions, 'checksums'> & Pick<OutgoingOptions, 'beforeCompletion'> {
  if (!isReadable(file.mainFd)) return {};
  return {
    ...(copies ? { checksums: 'xxh64' } : {}),
    beforeCompletion: async ({ channels, checksums }, signal) => {
      await sealImage({
        path: file.name,
        fd: file.mainFd,
        offset: file.offset,
        facts: facts(),
        channels,
        direct: file.direct,
        signal,
        ...(checksums
          ? {
              checksums: { algorithm: checksums.algorithm, chunkBytes: checksums.chunkBytes },
              digests: checksums.digests,
            }
          : {}),
      });
    },
  };
}

function isReadable(fd: number): boolean {
  try {
    closeFile(reopenFile(fd, constants.O_RDONLY));
    return true;
  } catch {
    return false;
  }
}
