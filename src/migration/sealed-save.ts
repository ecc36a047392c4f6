/** The manifest of files that are saved: by `mapram save` or through a monitor, by the engine or by QEMU itself. */
import type { KeyObject } from 'node:crypto';
import { digestChunkBytes } from '../channels/file/digest-chunk-bytes.js';
import type { DigestAlgorithm } from '../checksums/chunk-hash.js';
import { defined } from '../defined.js';
import type { Manifest } from '../manifest/manifest.js';
import { type SealOptions, sealImage } from '../manifest/seal.js';
import type { MigrationFile } from './migration-file.js';
import type { OutgoingOptions } from './outgoing.js';
import type { FileOutputOptions, WrittenChecksums } from './outputs/file-output.js';

export interface Seal extends Pick<SealOptions, 'onProgress' | 'onWarning'> {
  /** Asked for when all is taken. */
  facts: () => SealOptions['facts'];
  /** Digests of the pages, none where absent. */
  checksums?: DigestAlgorithm;
  signingKey?: KeyObject;
  /** For reading pages that were not digested as they were written; by default those that wrote. */
  channels?: number;
}

type SealedFile = Pick<MigrationFile, 'name' | 'mainFd' | 'offset' | 'direct'>;

/**
 * Options that give the file of a migration its manifest before the migration completes.
 *
 * @param onSealed told what was written
 */
export function sealing(
  file: SealedFile,
  seal: Seal,
  onSealed: (manifest: Manifest) => void = () => {},
): Pick<FileOutputOptions, 'checksums'> & Pick<OutgoingOptions, 'beforeCompletion'> {
  return {
    ...defined({ checksums: seal.checksums }),
    beforeCompletion: async ({ channels, checksums: written, ram }, signal) =>
      onSealed(await sealFile(file, { channels, ...seal }, { ramBytes: ram.totalBytes, written, signal })),
  };
}

/** Gives a complete file its manifest. */
export function sealFile(
  { name: path, mainFd: fd, offset, direct }: SealedFile,
  { facts, checksums: algorithm, channels = 1, ...options }: Seal,
  saved: { ramBytes: number; written?: WrittenChecksums | undefined; signal: AbortSignal },
): Promise<Manifest> {
  const { ramBytes, written, signal } = saved;
  const checksums = algorithm && {
    algorithm,
    chunkBytes: written?.chunkBytes ?? digestChunkBytes(ramBytes, algorithm),
  };
  return sealImage({
    ...options,
    ...{ path, fd, offset, direct, channels, signal, facts: facts() },
    ...defined({ checksums, digests: written?.digests }),
  });
}
