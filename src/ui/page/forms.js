/** Fields of forms, each with its label and a hint. */
import { element, icon, uniqueId } from './elements.js';

/**
 * @template {HTMLElement} Input
 * @typedef {object} Field
 * @property {HTMLElement} node
 * @property {Input} input
 */

/**
 * @template {HTMLElement} Input
 * @param {string} label
 * @param {Input} input
 * @param {string} [hint]
 * @returns {Field<Input>}
 */
function field(label, input, hint) {
  const id = uniqueId('field');
  input.id = id;
  const check = input instanceof HTMLInputElement && input.type === 'checkbox';
  const note = hint === undefined ? undefined : element('span', { class: 'soft', id: `${id}-hint` }, hint);
  if (note) input.setAttribute('aria-describedby', note.id);
  const name = element('label', { for: id }, label);
  const node = element(
    'div',
    { class: check ? 'field check' : 'field' },
    ...(check ? [input, name] : [name, input]),
    note,
  );
  return { node, input };
}

/**
 * @param {string} label
 * @param {string} value
 * @param {string} [hint]
 * @param {{ optional?: boolean, placeholder?: string }} [options]
 */
export function textField(label, value, hint, { optional = false, placeholder } = {}) {
  const input = element('input', {
    type: 'text',
    value,
    required: !optional,
    placeholder,
    spellcheck: 'false',
    autocomplete: 'off',
  });
  return field(label, input, hint);
}

/**
 * @param {string} label
 * @param {number | undefined} value undefined leaves it empty, which is then allowed
 * @param {{ min: number, max?: number }} range
 * @param {string} [hint]
 * @param {string} [placeholder] what an empty one means
 */
export function numberField(label, value, { min, max }, hint, placeholder) {
  const required = placeholder === undefined;
  return field(
    label,
    element('input', { type: 'number', value, min, max, step: 1, required, placeholder }),
    hint,
  );
}

/**
 * @param {string} label
 * @param {boolean} checked
 * @param {string} [hint]
 */
export function checkField(label, checked, hint) {
  return field(label, element('input', { type: 'checkbox', checked }), hint);
}

/**
 * @param {string} label
 * @param {readonly (readonly [value: string, text: string])[]} choices
 * @param {string} [value] the one that is chosen at first
 * @param {string} [hint]
 */
export function choiceField(label, choices, value, hint) {
  const options = choices.map(([each, text]) =>
    element('option', { value: each, selected: each === value }, text),
  );
  return field(label, element('select', {}, ...options), hint);
}

/**
 * Fields that few need. They are open when one of them is not as usual.
 *
 * @param {string} title
 * @param {boolean} open
 * @param {Node[]} nodes
 */
export function group(title, open, nodes) {
  return element(
    'details',
    { class: 'group', open },
    element('summary', {}, title),
    element('div', { class: 'fields' }, ...nodes),
  );
}

/** @param {Node[]} nodes side by side where there is room */
export function pair(...nodes) {
  return element('div', { class: 'pair' }, ...nodes);
}

/** @param {string} text something to know before a form is sent */
export function notice(text) {
  return element('p', { class: 'notice' }, icon('warning'), element('span', {}, text));
}

/**
 * A number that was left empty is not sent.
 *
 * @param {HTMLInputElement} input
 */
export function numberOf({ valueAsNumber }) {
  return Number.isNaN(valueAsNumber) ? undefined : valueAsNumber;
}

/**
 * The two fields that all reading and writing has.
 *
 * @param {{ directIo?: string, channels?: number | 'auto' }} [initial]
 */
export function transferFields({ directIo: mode = 'auto', channels: number } = {}) {
  const directIo = choiceField(
    'Direct I/O',
    [
      ['auto', 'where the file system allows it'],
      ['on', 'always, or fail'],
      ['off', 'never: through the page cache'],
    ],
    mode,
    'Pages bypass the page cache of this host.',
  );
  const channels = numberField(
    'Channels',
    typeof number === 'number' ? number : undefined,
    { min: 1, max: 255 },
    'Threads that move pages at the same time.',
    'chosen by mapram',
  );
  return {
    nodes: [pair(directIo.node, channels.node)],
    /** Whether they are not as usual. */
    changed: mode !== 'auto' || typeof number === 'number',
    values: () => ({ directIo: directIo.input.value, channels: numberOf(channels.input) }),
  };
}
