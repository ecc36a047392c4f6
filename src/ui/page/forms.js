/** Fields of forms, each with its label and a hint. */
import { element, uniqueId } from './elements.js';

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
 */
export function textField(label, value, hint) {
  return field(label, element('input', { type: 'text', value, required: true, spellcheck: 'false' }), hint);
}

/**
 * @param {string} label
 * @param {number} value
 * @param {{ min: number, max: number }} range
 * @param {string} [hint]
 */
export function numberField(label, value, { min, max }, hint) {
  return field(label, element('input', { type: 'number', value, min, max, step: 1, required: true }), hint);
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
 * @param {string} [hint]
 */
export function choiceField(label, choices, hint) {
  const options = choices.map(([value, text]) => element('option', { value }, text));
  return field(label, element('select', {}, ...options), hint);
}

/** The two fields that all reading and writing has. */
export function transferFields() {
  const directIo = choiceField(
    'Direct I/O',
    [
      ['auto', 'auto: where the file system allows it'],
      ['on', 'on: or fail'],
      ['off', 'off: through the page cache'],
    ],
    'Whether pages go past the page cache of this host.',
  );
  const channels = numberField(
    'Channels',
    4,
    { min: 1, max: 255 },
    'Threads that move pages at the same time.',
  );
  return {
    nodes: [directIo.node, channels.node],
    values: () => ({ directIo: directIo.input.value, channels: channels.input.valueAsNumber }),
  };
}
