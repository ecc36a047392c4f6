/** The four figures on top of the page. */
import { element, fill, icon } from './elements.js';
import { isUnderWay } from './operations.js';
import { stateOfSaved } from './saved.js';
import { baseName, percent, plural, rate, size } from './text.js';
import { stateOfVm } from './vms.js';

/** @import { DirectoryEntry } from '../directories.js' */
/** @import { OperationEntry } from '../operations.js' */
/** @import { SavedEntry } from '../saved-list.js' */
/** @import { VmEntry } from '../vm-list.js' */
/** @import { State } from './elements.js' */

/** States that a tile has room for. */
const MOST = 3;

/**
 * @param {Element} list
 * @param {{ directories: readonly DirectoryEntry[], vms: readonly VmEntry[], saved: readonly SavedEntry[], operations: ReadonlyMap<number, OperationEntry> }} state
 */
export function showOverview(list, { directories, vms, saved, operations }) {
  const active = [...operations.values()].filter(isUnderWay);
  const failed = [...operations.values()].filter(
    ({ state, verdict }) => state === 'failed' || verdict !== undefined,
  ).length;
  const free = directories[0];
  const used = saved.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
  fill(
    list,
    tile('operations-title', 'Under way', String(active.length), [
      ...progressOf(active),
      ...(failed === 0 ? [] : [sign(['cross', `${failed} failed`, 'bad'])]),
    ]),
    tile(
      'vms-title',
      'Virtual machines',
      String(vms.length),
      counted(vms.map((vm) => stateOfVm(vm, operations.get(vm.operation ?? -1)))),
    ),
    tile('saved-title', 'Saved VMs', saved.length.toLocaleString('en'), counted(saved.map(stateOfSaved))),
    tile(
      'directories-title',
      free === undefined ? 'Free' : `Free in ${baseName(free.path)}`,
      free === undefined ? '–' : size(free.freeBytes),
      [element('span', { class: 'sign' }, `${size(used)} used by ${plural(saved.length, 'saved VM')}`)],
    ),
  );
}

/** @param {readonly OperationEntry[]} active */
function progressOf([first]) {
  const { bytes = 0, totalBytes = 0, rate: now = 0 } = first?.progress ?? {};
  if (first === undefined) return [element('span', { class: 'sign' }, 'nothing to wait for')];
  const parts = [
    totalBytes > 0 ? percent(Math.min(1, bytes / totalBytes)) : 'beginning',
    ...(now > 0 ? [rate(now)] : []),
  ];
  return [element('span', { class: 'sign' }, parts.join(', '))];
}

/**
 * How many there are in each state, the most frequent first; what is bad is never left out.
 *
 * @param {readonly State[]} states
 */
function counted(states) {
  /** @type {Map<string, { state: State, count: number }>} */
  const kinds = new Map();
  for (const state of states) {
    const known = kinds.get(state[1]);
    kinds.set(state[1], { state, count: (known?.count ?? 0) + 1 });
  }
  const weight = (/** @type {State} */ [, , tone]) => (tone === 'bad' ? 1 : 0);
  return [...kinds.values()]
    .sort((one, other) => weight(other.state) - weight(one.state) || other.count - one.count)
    .slice(0, MOST)
    .map(({ state: [mark, word, tone], count }) =>
      sign([mark, `${count.toLocaleString('en')} ${word}`, tone]),
    );
}

/** @param {readonly [mark: State[0], word: string, tone?: State[2] | undefined]} state */
function sign([mark, word, tone]) {
  return element('span', { class: tone === undefined ? 'sign' : `sign ${tone}` }, icon(mark), word);
}

/**
 * @param {string} target id of the section
 * @param {string} label
 * @param {string} value
 * @param {Node[]} states
 */
function tile(target, label, value, states) {
  return element(
    'li',
    {},
    element(
      'a',
      { class: 'tile', href: `#${target}` },
      element('span', { class: 'label' }, label),
      element('span', { class: 'value' }, value),
      element('span', { class: 'states' }, ...states),
    ),
  );
}
