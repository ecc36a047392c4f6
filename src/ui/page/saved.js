/** The list of saved VMs and what can be done with them. */
import { post } from './address.js';
import { openQuestion } from './dialog.js';
import { button, element, fill, pill, setUsable, soft } from './elements.js';
import { openDetails } from './file-details.js';
import { openFork, openResume } from './launch-forms.js';
import { createListing } from './listing.js';
import { menuButton } from './menu.js';
import { openConvert, openDiff, openRestore, openVerify } from './saved-forms.js';
import { moment, size } from './text.js';

/** @import { SavedEntry } from '../saved-list.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { VmEntry } from '../vm-list.js' */
/** @import { State } from './elements.js' */

/**
 * @typedef {object} SavedContext
 * @property {() => readonly SavedEntry[]} saved
 * @property {() => readonly VmEntry[]} vms
 * @property {() => readonly DirectoryEntry[]} directories
 */

/**
 * @param {SavedEntry} entry
 * @returns {State}
 */
export function stateOfSaved({ state, checked, form }) {
  if (state === 'incomplete') return ['cross', 'incomplete', 'bad'];
  if (form === 'stream') return ['stream', 'stream'];
  if (state === 'unreadable') return ['cross', 'cannot be read', 'bad'];
  if (checked === undefined) return ['check', 'complete'];
  return checked.ok ? ['check', 'sound', 'good'] : ['warning', 'damaged', 'bad'];
}

/** @param {SavedEntry} entry */
const savedAt = ({ manifest, modifiedAt }) => manifest?.createdAt ?? modifiedAt;

/**
 * @param {Element} place
 * @param {Element} tools
 * @param {SavedContext} context
 */
export function createSavedList(place, tools, context) {
  return createListing(place, tools, {
    label: 'Saved VMs',
    columns: [
      { title: 'File' },
      { title: 'State', style: 'w-state state', plain: true },
      { title: 'Memory', style: 'w-size number' },
      { title: 'Saved', style: 'w-time' },
      { title: 'Actions', style: 'w-short-actions' },
    ],
    keyOf: ({ file }) => file,
    words: (entry) => [entry.name, entry.directory, entry.image?.machine, stateOfSaved(entry)[1]].join(' '),
    orders: [
      ['newest first', (one, other) => savedAt(other).localeCompare(savedAt(one))],
      ['by name', (one, other) => one.name.localeCompare(other.name, 'en', { numeric: true })],
      ['largest first', (one, other) => other.allocatedBytes - one.allocatedBytes],
      ['by state', (one, other) => stateOfSaved(one)[1].localeCompare(stateOfSaved(other)[1])],
    ],
    actions: ({ file, name }) => createActions(file, name, context),
    update: (entry, cells, actions) => updateRow(entry, cells, actions, context),
  });
}

/**
 * @param {string} file
 * @param {string} name
 * @param {SavedContext} context
 * @returns {Node[]}
 */
function createActions(file, name, { saved, vms, directories }) {
  const entry = () => saved().find((candidate) => candidate.file === file);
  /** @param {(entry: SavedEntry) => void} act */
  const on = (act) => () => {
    const found = entry();
    if (found !== undefined) act(found);
  };
  const resume = button(
    'Resume…',
    on((found) => openResume(found)),
    { 'aria-label': `Resume ${name}`, 'data-part': 'resume' },
  );
  return [
    resume,
    menuButton(name, () => {
      const found = entry();
      if (found === undefined) return [];
      const incomplete = whyNotLoaded(found);
      const unreadable =
        found.image === undefined && found.form !== 'stream' ? 'It cannot be read.' : undefined;
      return [
        { label: 'Verify…', act: on((one) => openVerify(one.file)), reason: whyNotInside(found) },
        { label: 'Fork…', act: on((one) => openFork(one, directories())), reason: incomplete },
        { label: 'Restore…', act: on((one) => openRestore(one, vms())), reason: incomplete },
        undefined,
        { label: 'Compare…', act: on((one) => openDiff(one, saved())), reason: unreadable },
        { label: 'Convert…', act: on((one) => openConvert(one, directories())), reason: unreadable },
        undefined,
        { label: 'Remove…', act: on(askToRemove), danger: true },
      ];
    }),
  ];
}

/** @param {SavedEntry} entry */
function askToRemove({ file, name, allocatedBytes }) {
  openQuestion(
    `Remove ${name}?`,
    'Remove file',
    [`${file} is deleted; ${size(allocatedBytes)} on the disk become free. It cannot be brought back.`],
    () => post('remove', { file }),
  );
}

/** @param {SavedEntry} entry */
function whyNotLoaded({ state, form }) {
  if (form === 'stream') return 'It is a plain stream: convert it to a mapped-ram file first.';
  if (state === 'incomplete') return 'It is incomplete: no VM can be made of it.';
  return state === 'unreadable' ? 'It cannot be read.' : undefined;
}

/** @param {SavedEntry} entry */
function whyNotInside({ image, form }) {
  if (image !== undefined) return undefined;
  return form === 'stream' ? 'It is a plain stream: convert it to look inside.' : 'It cannot be read.';
}

/**
 * The name of a file opens its details.
 *
 * @param {HTMLElement} cell
 * @param {SavedEntry} entry
 * @param {() => SavedEntry | undefined} current
 */
function addOpener(cell, { name }, current) {
  const opener = button(
    name,
    () => {
      const entry = current();
      if (entry !== undefined) openDetails(entry);
    },
    { class: 'name', 'aria-label': `Details of ${name}` },
  );
  const rest = element('div');
  cell.append(opener, rest);
  return [opener, rest];
}

/**
 * @param {SavedEntry} entry
 * @param {HTMLElement[]} cells
 * @param {HTMLElement} actions
 * @param {SavedContext} context
 */
function updateRow(entry, [name, state, memory, time], actions, { saved }) {
  if (!name || !state || !memory || !time) return;
  const { file, image, manifest, checked } = entry;
  const [opener, rest] =
    name.children.length > 0
      ? [...name.children]
      : addOpener(name, entry, () => saved().find((one) => one.file === file));
  const about = [
    image?.machine,
    image?.container === 'libvirt' ? 'libvirt' : undefined,
    manifest?.qemu ? `QEMU ${manifest.qemu}` : undefined,
    manifest?.signed ? 'signed' : undefined,
    image !== undefined && manifest !== undefined && !manifest.checksums ? 'no checksums' : undefined,
  ].filter((part) => part !== undefined);
  fill(
    /** @type {Element} */ (rest),
    element('span', { class: 'soft line path' }, entry.directory),
    ...(about.length === 0 ? [] : [soft(about.join(' · '))]),
  );
  setUsable(opener, whyNotInside(entry));
  const notes = checked?.problem === undefined ? entry.problems : [checked.problem, ...entry.problems];
  fill(
    state,
    pill(stateOfSaved(entry)),
    ...notes.map((problem) => soft(problem)),
    checked === undefined ? undefined : soft(`checked ${moment(checked.at)}`),
  );
  fill(
    memory,
    ...(image === undefined ? [] : [size(image.ramBytes)]),
    soft(`${size(entry.allocatedBytes)} on disk`),
  );
  const [day, hour] = moment(savedAt(entry)).split(', ');
  fill(time, day, soft(hour));
  setUsable(actions.querySelector('[data-part="resume"]'), whyNotLoaded(entry));
}
