/**
 * Building the page. Text always goes in as text, never as markup: names of files, VMs and devices come from strangers.
 */

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
 * @param {string} label
 * @param {() => void} onClick
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 */
export function button(label, onClick, attributes = {}) {
  const made = element('button', { type: 'button', ...attributes }, label);
  made.addEventListener('click', () => {
    if (made.getAttribute('aria-disabled') !== 'true') onClick();
  });
  return made;
}

/**
 * A button that does nothing for now. Unlike a disabled one it keeps the focus, so that whoever works with keys does not
 * lose the place.
 *
 * @param {Element | null | undefined} target
 * @param {boolean} enabled
 */
export function setEnabled(target, enabled) {
  if (target) setAttribute(target, 'aria-disabled', enabled ? undefined : 'true');
}

/**
 * A sign before a word. The word says the same, for those who hear the page.
 *
 * @param {string} sign
 * @param {string} word
 * @param {string} [tone] `good` or `bad`
 */
export function marked(sign, word, tone) {
  return element(
    'span',
    { class: tone },
    element('span', { class: 'mark', 'aria-hidden': 'true' }, sign),
    word,
  );
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
