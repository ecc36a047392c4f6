import { errorReason, MapramError } from '../../errors.js';
import { allocatedBytes, fileSize } from '../../io/file/file-space.js';
import { TargetFile } from '../files/target-file.js';
import type { ConvertedFile, ConvertTargetOptions } from './convert-target.js';

/**
 * Creates `file`, lets `write` fill it, and gives it its name when that has succeeded.
 *
 * @throws MapramError as `TargetFile` and `write` do, `IO` for system errors of `write`
 */
export async function writeConverted<T>(
  file: string,
  { force = false, signal }: Pick<ConvertTargetOptions, 'force' | 'signal'>,
  write: (fd: number, path: string) => Promise<T>,
): Promise<{ converted: ConvertedFile; result: T }> {
  using target = TargetFile.create(file, { force });
  try {
    const result = await write(target.fd, file);
    const converted = { file, fileBytes: fileSize(target.fd), allocatedBytes: allocatedBytes(target.fd) };
    signal?.throwIfAborted();
    await target.publish();
    return { converted, result };
  } catch (error) {
    if (error instanceof MapramError || signal?.aborted) throw error;
    throw new MapramError('IO', `writing ${file}: ${errorReason(error)}`, { path: file, cause: error });
  }
}
