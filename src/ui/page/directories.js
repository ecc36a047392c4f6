/** The directories of saved VMs, and how fast their disks are. */
import { post } from './address.js';
import { button, fill, setUsable, soft } from './elements.js';
import { createListing } from './listing.js';
import { showFailure } from './messages.js';
import { rate, size } from './text.js';

/** @import { DirectoryEntry } from '../directories.js' */

/** @param {Element} place */
export function createDirectoryList(place) {
  return createListing(place, undefined, {
    label: 'Directories',
    columns: [
      { title: 'Directory' },
      { title: 'Free', style: 'w-size number' },
      { title: 'Write', style: 'w-size number' },
      { title: 'Read', style: 'w-size number' },
      { title: 'Actions', style: 'w-short-actions' },
    ],
    keyOf: ({ path }) => path,
    words: ({ path }) => path,
    orders: [],
    actions: ({ path }) => [
      button('Measure', () => void post('speed', { directory: path }).catch(showFailure), {
        'aria-label': `Measure the disk of ${path}`,
      }),
    ],
    update: updateRow,
  });
}

/**
 * @param {DirectoryEntry} entry
 * @param {HTMLElement[]} cells
 * @param {HTMLElement} actions
 */
function updateRow(
  { path, freeBytes, speed, measuring, message, omittedFiles = 0 },
  [name, free, write, read],
  actions,
) {
  if (!name || !free || !write || !read) return;
  const trial =
    speed && `measured with ${size(speed.bytes)}, ${speed.direct ? 'direct I/O' : 'through the page cache'}`;
  fill(
    name,
    path,
    soft(measuring ? 'being measured …' : (message ?? trial ?? 'not measured')),
    omittedFiles === 0
      ? undefined
      : soft(`${omittedFiles.toLocaleString('en')} more files are not shown: the list is full`),
  );
  fill(free, size(freeBytes));
  fill(write, ...(speed ? [rate(speed.writeRate)] : []));
  fill(read, ...(speed ? [rate(speed.readRate)] : []));
  setUsable(actions.querySelector('button'), measuring ? 'It is being measured already.' : undefined);
}
