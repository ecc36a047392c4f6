/**
 * A table that stays usable with thousands of rows: it can be filtered and sorted, and shows so many at a time. On small screens the
 * style sheet makes a card of each row, and would take its roles away; so they are written down.
 */
import { button, element, fill, reconcile, setAttribute, uniqueId } from './elements.js';

/** Rows that are added at once. */
const STEP = 100;
/** With fewer rows nobody needs to search. */
const SEARCHED_FROM = 8;

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {string} [style] class of its cells
 * @property {boolean} [plain] no title beside its value on a card
 */

/**
 * @template Item
 * @typedef {object} Description
 * @property {string} label
 * @property {readonly Column[]} columns the first is the name
 * @property {(item: Item) => string} keyOf
 * @property {(item: Item) => string} words what the search looks through
 * @property {readonly (readonly [title: string, compare: (one: Item, other: Item) => number])[]} orders the first is used until another is chosen
 * @property {(item: Item) => Node[]} actions the contents of the last cell, made once for each row
 * @property {(item: Item, cells: HTMLElement[], actions: HTMLElement) => void} update fills the other cells
 */

/**
 * @template Item
 * @param {Element} place
 * @param {Element | undefined} tools where the search goes
 * @param {Description<Item>} description
 */
export function createListing(place, tools, description) {
  const { label, columns, keyOf, words, orders } = description;
  const body = element('tbody', { role: 'rowgroup' });
  const table = createTable(label, columns, body);
  const count = element('p', { class: 'more soft', role: 'status' });
  const more = button('', () => {
    shown += STEP;
    update();
  });
  const search = element('input', {
    type: 'search',
    placeholder: 'Filter …',
    'aria-label': `Filter: ${label}`,
  });
  const order = element(
    'select',
    { 'aria-label': `Order: ${label}` },
    ...orders.map(([title], index) => element('option', { value: index }, title)),
  );
  tools?.append(search, ...(orders.length > 1 ? [order] : []));
  place.append(table, count, element('p', { class: 'more' }, more));
  let shown = STEP;
  /** @type {readonly Item[]} */
  let items = [];
  const update = () => {
    const wanted = search.value.trim().toLowerCase();
    const compare = orders[order.selectedIndex]?.[1];
    const found =
      wanted === '' ? [...items] : items.filter((item) => words(item).toLowerCase().includes(wanted));
    if (compare !== undefined) found.sort(compare);
    const visible = found.slice(0, shown);
    table.hidden = found.length === 0;
    reconcile(
      body,
      visible,
      keyOf,
      (item) => createRow(item, description),
      (row, item) => updateRow(row, item, description),
    );
    const few = items.length < SEARCHED_FROM && wanted === '';
    setAttribute(search, 'hidden', few);
    setAttribute(order, 'hidden', few);
    count.hidden = wanted === '' && found.length <= shown;
    fill(count, count.hidden ? undefined : countOf(visible.length, found.length, wanted, items.length));
    more.hidden = found.length <= shown;
    fill(more, `Show ${Math.min(STEP, found.length - shown)} more`);
  };
  for (const input of [search, order]) {
    input.addEventListener('input', () => {
      shown = STEP;
      update();
    });
  }
  return (/** @type {readonly Item[]} */ now) => {
    items = now;
    update();
  };
}

/**
 * @param {number} visible
 * @param {number} found
 * @param {string} wanted what was searched for
 * @param {number} all
 */
function countOf(visible, found, wanted, all) {
  const shown = `${visible.toLocaleString('en')} of ${found.toLocaleString('en')}`;
  return wanted === '' ? shown : `${shown} that match “${wanted}”, ${all.toLocaleString('en')} in all`;
}

/**
 * @param {string} label
 * @param {readonly Column[]} columns
 * @param {HTMLElement} body
 */
function createTable(label, columns, body) {
  const head = columns.map(({ title, style }) =>
    element('th', { scope: 'col', role: 'columnheader', class: style }, title),
  );
  return element(
    'table',
    { class: 'list', role: 'table', 'aria-label': label, id: uniqueId('list') },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...head)),
    body,
  );
}

/**
 * @template Item
 * @param {Item} item
 * @param {Description<Item>} description
 */
function createRow(item, { columns, actions }) {
  const cells = columns
    .slice(1)
    .map(({ title, style, plain }) =>
      element('td', { role: 'cell', class: style, 'data-label': plain ? undefined : title }),
    );
  const last = cells.at(-1);
  last?.removeAttribute('data-label');
  last?.append(element('div', { class: 'actions' }, ...actions(item)));
  return element('tr', { role: 'row' }, element('th', { scope: 'row', role: 'rowheader' }), ...cells);
}

/**
 * @template Item
 * @param {HTMLTableRowElement} row
 * @param {Item} item
 * @param {Description<Item>} description
 */
function updateRow(row, item, { update }) {
  const cells = [...row.cells];
  const actions = cells.pop();
  if (actions === undefined) return;
  update(item, cells, actions);
  // An empty cell is no line of a card.
  for (const cell of cells) cell.classList.toggle('void', cell.childNodes.length === 0);
}
