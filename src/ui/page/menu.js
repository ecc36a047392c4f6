/** Actions that a row has no room for: a button that opens a list of buttons. */
import { button, element, icon, setUsable, uniqueId } from './elements.js';

/**
 * @typedef {object} MenuItem
 * @property {string} label
 * @property {() => void} act
 * @property {string | undefined} [reason] why it cannot be used now
 * @property {boolean} [danger]
 */

/**
 * @param {string} about what the actions are for
 * @param {() => (MenuItem | undefined)[]} items asked for whenever the menu opens; undefined is a line between two groups
 */
export function menuButton(about, items) {
  const id = uniqueId('menu');
  const list = element('div', {
    id,
    class: 'menu',
    popover: 'auto',
    role: 'group',
    'aria-label': `Actions for ${about}`,
  });
  const opener = element(
    'button',
    {
      type: 'button',
      class: 'square',
      popovertarget: id,
      'aria-expanded': 'false',
      'aria-label': `More actions for ${about}`,
    },
    icon('more'),
  );
  list.addEventListener('beforetoggle', (event) => {
    const opens = /** @type {ToggleEvent} */ (event).newState === 'open';
    opener.setAttribute('aria-expanded', String(opens));
    if (opens) list.replaceChildren(...items().map((item) => entry(item, about, list)));
  });
  const follow = () => place(list, opener);
  list.addEventListener('toggle', (event) => {
    const opens = /** @type {ToggleEvent} */ (event).newState === 'open';
    for (const what of ['scroll', 'resize']) {
      if (opens) window.addEventListener(what, follow, { passive: true });
      else window.removeEventListener(what, follow);
    }
    if (!opens) return;
    follow();
    list.querySelector('button')?.focus();
  });
  list.addEventListener('keydown', (event) => moveFocus(list, event));
  return element('span', {}, opener, list);
}

/**
 * @param {MenuItem | undefined} item
 * @param {string} about
 * @param {HTMLElement} list
 */
function entry(item, about, list) {
  if (item === undefined) return element('hr');
  const { label, act, reason, danger = false } = item;
  const made = button(
    label,
    () => {
      list.hidePopover();
      act();
    },
    { 'aria-label': `${label.replace('…', '')} ${about}`, class: danger ? 'danger' : undefined },
  );
  setUsable(made, reason);
  return made;
}

/**
 * Below its button where there is room, else above it.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement} opener
 */
function place(list, opener) {
  const { right, top, bottom } = opener.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = list;
  const below = bottom + 4 + height <= window.innerHeight || top < height;
  list.style.left = `${Math.max(8, right - width)}px`;
  list.style.top = `${below ? bottom + 4 : top - 4 - height}px`;
}

/**
 * @param {HTMLElement} list
 * @param {KeyboardEvent} event
 */
function moveFocus(list, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const buttons = [...list.querySelectorAll('button')];
  const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  buttons.at((at + step) % buttons.length)?.focus();
}
