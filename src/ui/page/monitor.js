/** The migration parameters and capabilities of a VM, to read and to set. */
import { get, post } from './address.js';
import { openView } from './dialog.js';
import { button, element, setAttribute } from './elements.js';

/** @import { MonitorCapability, MonitorState, ParameterState } from '../monitor-state.js' */

/** Shown first: what saving to files is about. */
const FIRST = [
  'direct-io',
  'multifd-channels',
  'zero-page-detection',
  'max-bandwidth',
  'mapped-ram',
  'multifd',
];

/** @param {{ name: string }} setting */
function place({ name }) {
  const index = FIRST.indexOf(name);
  return index < 0 ? FIRST.length : index;
}

/** @param {string} vm */
export function openMonitor(vm) {
  const content = element('div', {}, 'Asking …');
  const note = element('p', { role: 'status' });
  openView(`Migration settings of ${vm}`, [note, content]);
  const load = async () => {
    try {
      show(await get('monitor', { vm }));
    } catch (error) {
      content.replaceChildren();
      fail(error);
    }
  };
  const fail = (/** @type {unknown} */ error) => {
    note.className = 'problem';
    note.textContent = /** @type {Error} */ (error).message;
  };
  const change = async (/** @type {string} */ name, /** @type {object} */ changes) => {
    note.className = '';
    note.textContent = `Setting ${name} …`;
    try {
      const state = await post('monitor', { vm, ...changes });
      show(state);
      note.textContent = `${name} is set.`;
      // The controls are new ones: anyone who works with keys continues at the same place.
      document.getElementById(`setting-${name}`)?.focus();
    } catch (error) {
      fail(error);
    }
  };
  /** @param {MonitorState} state */
  const show = (state) => {
    const parameters = [...state.parameters].sort((one, other) => place(one) - place(other));
    const capabilities = [...state.capabilities].sort((one, other) => place(one) - place(other));
    content.replaceChildren(
      element(
        'p',
        {},
        `QEMU ${state.version}. A migration to a file with these settings `,
        state.directIo
          ? 'uses direct I/O.'
          : 'goes through the page cache: direct I/O needs direct-io, mapped-ram and multifd on.',
      ),
      element(
        'p',
        { class: 'soft line' },
        'Saves and restores of mapram set what they need and put these settings back.',
      ),
      button('Read again', load),
      element('h3', {}, 'Parameters'),
      list(parameters, (parameter) => parameterControl(parameter, change)),
      element('h3', {}, 'Capabilities'),
      list(capabilities, (capability) => capabilityControl(capability, change)),
    );
  };
  void load();
}

/**
 * @template {{ name: string, summary?: string }} Setting
 * @param {readonly Setting[]} settings
 * @param {(setting: Setting) => Node[]} control
 */
function list(settings, control) {
  return element(
    'ul',
    { class: 'settings' },
    ...settings.map((setting) =>
      element(
        'li',
        { class: 'setting' },
        element(
          'div',
          {},
          element('label', { for: `setting-${setting.name}` }, setting.name),
          setting.summary === undefined
            ? undefined
            : element('span', { class: 'soft line' }, setting.summary),
        ),
        element('div', {}, ...control(setting)),
      ),
    ),
  );
}

/** @typedef {(name: string, changes: object) => Promise<void>} Change */

/**
 * @param {MonitorCapability} capability
 * @param {Change} change
 */
function capabilityControl({ name, state }, change) {
  return [toggle(name, state, (on) => change(name, { capabilities: { [name]: on } }))];
}

/**
 * @param {ParameterState} parameter
 * @param {Change} change
 */
function parameterControl(parameter, change) {
  const { name, kind, value, choices = [], unit } = parameter;
  const set = (/** @type {string | boolean} */ wanted) => change(name, { parameters: { [name]: wanted } });
  const id = `setting-${name}`;
  if (kind === 'boolean') return [toggle(name, value === true, set)];
  if (kind === 'fixed') return [element('output', { id }, String(value))];
  if (kind === 'choice') {
    const options = choices.map((choice) => element('option', { selected: choice === value }, choice));
    const select = element('select', { id }, ...options);
    select.addEventListener('change', () => void set(select.value));
    return [select];
  }
  const input = element('input', {
    id,
    type: 'text',
    value: String(value),
    inputmode: kind === 'integer' ? 'numeric' : undefined,
    pattern: kind === 'integer' ? '\\d{1,20}' : undefined,
    spellcheck: 'false',
    autocomplete: 'off',
  });
  // Digits beyond 2^53 stay digits; that is why this is no number field.
  input.addEventListener('change', () => {
    setAttribute(input, 'aria-invalid', input.validity.valid ? undefined : 'true');
    if (input.reportValidity()) void set(input.value);
  });
  const hint = [unit, range(parameter)].filter((part) => part !== undefined).join(', ');
  if (hint === '') return [input];
  setAttribute(input, 'aria-describedby', `${id}-hint`);
  return [input, element('span', { class: 'soft', id: `${id}-hint` }, hint)];
}

/** @param {ParameterState} parameter */
function range({ min, max }) {
  if (max === undefined) return min === undefined ? undefined : `at least ${min}`;
  return `${min ?? 0} to ${max}`;
}

/**
 * @param {string} name
 * @param {boolean} on
 * @param {(on: boolean) => Promise<void>} set
 */
function toggle(name, on, set) {
  const input = element('input', { id: `setting-${name}`, type: 'checkbox', checked: on });
  input.addEventListener('change', async () => {
    await set(input.checked);
    // Where the monitor refused, this is still the old control.
    input.checked = on;
  });
  const word = element('span', { 'aria-hidden': 'true' }, on ? 'on' : 'off');
  return element('span', { class: 'toggle' }, input, word);
}
