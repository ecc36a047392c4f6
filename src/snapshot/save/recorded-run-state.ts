/** Corrects the run state that a file tells its destination to take up, see `global-state.ts`. */
import { MapramError } from '../../errors.js';
import { writeFully } from '../../io/file/positional-io.js';
import { MappedRamImage } from '../../mapped-ram/image.js';
import {
  encodeGlobalState,
  GLOBAL_STATE_BYTES,
  GLOBAL_STATE_SECTION,
  isAsleep,
} from '../../stream/global-state.js';

/** Of a FULL section, without the name: type, section id, name length, instance id, version id. */
const OPENING_BYTES = 1 + 4 + 1 + 4 + 4;

/**
 * Rewrites the run state in an open mapped-ram file. A file without that section (very old machine types) is left alone.
 *
 * @param fd open for writing, buffered; `path` is for messages
 */
export async function recordRunState(
  fd: number,
  path: string,
  runState: string,
  offset: number,
): Promise<void> {
  let position: number;
  {
    await using image = await MappedRamImage.reopen(fd, path, { offset });
    const section = image.tail.sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
    if (!section) return;
    if (section.data.byteLength < GLOBAL_STATE_BYTES) {
      throw new MapramError(
        'FORMAT',
        `recording the run state in ${path}: its globalstate section has only ${section.data.byteLength} bytes`,
        { path },
      );
    }
    position = image.container.offset + section.position + OPENING_BYTES + section.idstr.length;
  }
  writeFully(fd, encodeGlobalState(runState), position);
}

/** Whether the guest in the mapped-ram file `path` is asleep (S3). */
export async function sleepsIn(path: string, offset: number): Promise<boolean> {
  await using image = await MappedRamImage.open(path, { offset });
  const section = image.tail.sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
  return section !== undefined && isAsleep(section.data);
}
