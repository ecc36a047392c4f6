/**
 * Building the page. Text always goes in as text, never as markup: names of files, VMs and devices come from strangers.
 */

import { showMessage } from './messages.js';

/** @typedef {Node | string | undefined} Child */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes] true writes an empty one, false and undefined none
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {SVGElement[]} children
 */
export function svgElement(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * @param {Element} target
 * @param {string} name
 * @param {string | number | boolean | undefined} value
 */
export function setAttribute(target, name, value) {
  if (value === undefined || value === false) target.removeAttribute(name);
  else target.setAttribute(name, value === true ? '' : String(value));
}

/**
 * @param {Child} label
 * @param {(made: HTMLButtonElement) => void} onClick
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 */
export function button(label, onClick, attributes = {}) {
  const made = element('button', { type: 'button', ...attributes }, label);
  made.addEventListener('click', () => {
    if (made.getAttribute('aria-disabled') !== 'true') onClick(made);
    else if (made.title !== '') showMessage(made.title);
  });
  return made;
}

/**
 * A button that does nothing for now. Unlike a disabled one it keeps the focus, so that anyone who works with keys does not
 * lose the place; a click on it shows the reason.
 *
 * @param {Element | null | undefined} target
 * @param {string | undefined} reason why it cannot be used; undefined enables it
 */
export function setUsable(target, reason) {
  if (!target) return;
  setAttribute(target, 'aria-disabled', reason === undefined ? undefined : 'true');
  setAttribute(target, 'title', reason);
}

/** @typedef {keyof typeof ICONS} IconName */

/** Paths in a square of 24. */
const ICONS = {
  play: ['M7 4.5v15l12-7.5z', true],
  pause: ['M7 5h3v14H7zM14 5h3v14h-3z', true],
  check: ['M4 12.5l5.5 5.5L20 7'],
  cross: ['M6 6l12 12M18 6L6 18'],
  warning: ['M12 3.5L2.5 20h19zM12 10v4.5M12 17.2v.1'],
  down: ['M12 4v15M5.5 12.5L12 19l6.5-6.5'],
  dot: ['M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8z', true],
  ring: ['M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16z'],
  stop: ['M6 6h12v12H6z', true],
  lock: ['M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3'],
  refresh: ['M19.5 12a7.5 7.5 0 1 1-2.2-5.3M19.5 3.5v4h-4'],
  more: [
    'M5 10.5a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3zM12 10.5a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3zM19 10.5a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3z',
    true,
  ],
  stream: ['M3 8c3-3 6 3 9 0s6 3 9 0M3 16c3-3 6 3 9 0s6 3 9 0'],
};

/**
 * A sign, for those who see the page: the word beside it says the same.
 *
 * @param {IconName} name
 */
export function icon(name) {
  const [path, solid = false] = /** @type {[string, boolean?]} */ (ICONS[name]);
  return svgElement(
    'svg',
    { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' },
    svgElement('path', solid ? { d: path, class: 'solid' } : { d: path }),
  );
}

/** @typedef {readonly [sign: IconName, word: string, tone?: 'good' | 'bad' | 'warn' | 'active']} State */

/**
 * A state: told by its sign and word, and to those who see colours by its tone.
 *
 * @param {State} state
 */
export function pill([sign, word, tone]) {
  return element('span', { class: tone === undefined ? 'pill' : `pill ${tone}` }, icon(sign), word);
}

/** @param {Child[]} children */
export function soft(...children) {
  return element('span', { class: 'soft line' }, ...children);
}

/**
 * Writes only where something differs, so that a selection or the focus is left alone.
 *
 * @param {Element} target
 * @param {Child[]} children
 */
export function fill(target, ...children) {
  const wanted = element('div', {}, ...children);
  if (target.childNodes.length === wanted.childNodes.length) {
    const same = [...target.childNodes].every((child, index) =>
      child.isEqualNode(wanted.childNodes[index] ?? null),
    );
    if (same) return;
  }
  target.replaceChildren(...wanted.childNodes);
}

/**
 * Keeps one element for each item, in the order of the items. Elements that stay are updated in place and keep the focus.
 *
 * @template Item
 * @template {Element} Row
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Row} create
 * @param {(row: Row, item: Item) => void} update
 */
export function reconcile(parent, items, keyOf, create, update) {
  /** @type {Map<string | null, Row>} */
  const rows = new Map();
  for (const row of parent.children) rows.set(row.getAttribute('data-key'), /** @type {Row} */ (row));
  /** @type {Element | null} */
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    rows.delete(key);
    if (row === undefined) {
      row = create(item);
      row.setAttribute('data-key', key);
    }
    update(row, item);
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
  }
  for (const row of rows.values()) row.remove();
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

let lastId = 0;

/** @param {string} prefix */
export function uniqueId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
