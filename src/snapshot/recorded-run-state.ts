/**
 * The run state that a file tells its destination to take up, in the device section `globalstate`:
 *
 *     be32       length of the name with its NUL
 *     100 bytes  name of the run state, NUL-padded        "running", "paused", …
 *
 * QEMU records the state in which the guest was when the migration began. A guest that was stopped only so that it
 * could be saved must not come up paused, so the state before that is put in its place.
 */
import { constants } from 'node:fs';
import { MapramError } from '../errors.js';
import { closeFile, openFile } from '../io/open-file.js';
import { writeFully } from '../io/positional-io.js';
import { MappedRamImage } from '../mapped-ram/image.js';

const NAME_BYTES = 100;
/** Of a FULL section, without the name: type, section id, name length, instance id, version id. */
const OPENING_BYTES = 1 + 4 + 1 + 4 + 4;

/** Rewrites the run state in the mapped-ram file `path`. A file without that section (very old machine types) is left alone. */
export async function recordRunState(path: string, runState: string, offset: number): Promise<void> {
  let position: number;
  {
    await using image = await MappedRamImage.open(path, { offset });
    const section = image.tail.sections.find(({ idstr }) => idstr === 'globalstate');
    if (!section) return;
    if (section.data.byteLength < 4 + NAME_BYTES) {
      throw new MapramError(
        'FORMAT',
        `recording the run state in ${path}: its globalstate section has only ${section.data.byteLength} bytes`,
        { path },
      );
    }
    position = image.container.offset + section.position + OPENING_BYTES + section.idstr.length;
  }
  const bytes = Buffer.alloc(4 + NAME_BYTES);
  bytes.writeUInt32BE(runState.length + 1);
  bytes.write(runState, 4, 'latin1');
  const fd = openFile(path, constants.O_WRONLY);
  try {
    writeFully(fd, bytes, position);
  } finally {
    closeFile(fd);
  }
}
