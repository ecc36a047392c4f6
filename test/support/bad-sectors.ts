import { mkdirSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { FuseServer } from '../../src/fuse/fuse-server.js';
import { mountFuse, unmountFuse } from '../../src/io/file/fuse-mount.js';
import { closeFile } from '../../src/io/file/open-file.js';

/**
 * The same file below `directory`, as on a disk that cannot read the bytes from `start` to `end`: EIO. This process serves it, so
 * others must read it.
 */
export async function withBadSectors(
  file: string,
  directory: string,
  bad: { start: number; end: number },
): Promise<{ file: string } & AsyncDisposable> {
  mkdirSync(directory, { recursive: true });
  const name = path.basename(file);
  const { size, mtimeMs } = statSync(file);
  const handle = await open(file);
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset < bad.end && offset + length > bad.start) throw new Error('a bad sector');
    const { buffer, bytesRead } = await handle.read(new Uint8Array(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  };
  const device = await mountFuse(directory, 'bad sectors');
  const root = { name: '', entries: [{ name, bytes: size, read }] };
  const served = new FuseServer(device, root, { timeMs: mtimeMs, onFailure: () => {} }).serve();
  return {
    file: path.join(directory, name),
    async [Symbol.asyncDispose]() {
      await unmountFuse(directory, 'detach');
      await served;
      closeFile(device);
      await handle.close();
    },
  };
}
