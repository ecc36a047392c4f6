/** The table of VMs and what can be done with them. */
import { post } from './address.js';
import { openForm } from './dialog.js';
import { button, element, fill, marked, reconcile, setEnabled } from './elements.js';
import { checkField, choiceField, textField, transferFields } from './forms.js';
import { openMonitor } from './monitor.js';

/** @import { VmEntry } from '../vm-list.js' */
/** @import { DirectoryEntry } from '../directories.js' */

/** @type {Record<string, [sign: string, word: string]>} */
const RUN_STATES = {
  running: ['▶', 'running'],
  paused: ['❚❚', 'paused'],
  prelaunch: ['❚❚', 'not started yet'],
  postmigrate: ['❚❚', 'stopped after a migration'],
  inmigrate: ['↓', 'being loaded'],
  shutdown: ['■', 'shut down'],
};

/** @param {VmEntry} vm */
function stateOf({ monitor, runState = '', waiting, operation, message, migration = 'none' }) {
  if (operation !== undefined) return [marked('⚙', `in the hands of operation ${operation}`)];
  if (monitor === 'busy') {
    return [marked('⊘', 'busy'), element('span', { class: 'soft' }, message ?? '')];
  }
  if (monitor === 'failed') {
    return [marked('✗', 'cannot be asked', 'bad'), element('span', { class: 'soft' }, message ?? '')];
  }
  const [sign, word] = waiting ? ['↓', 'waits for a file'] : (RUN_STATES[runState] ?? ['•', runState]);
  const last =
    migration === 'none' ? undefined : element('span', { class: 'soft' }, `last migration: ${migration}`);
  return [marked(sign, word), last];
}

/**
 * @param {Element} body
 * @param {readonly VmEntry[]} vms
 * @param {{ directories: () => readonly DirectoryEntry[], onProblem: (problem: string) => void }} context
 */
export function showVms(body, vms, context) {
  reconcile(
    body,
    vms,
    ({ address }) => address,
    ({ address }) => createRow(address, context),
    updateRow,
  );
}

/**
 * @param {string} address
 * @param {{ directories: () => readonly DirectoryEntry[], onProblem: (problem: string) => void }} context
 */
function createRow(address, { directories, onProblem }) {
  const change = (/** @type {string} */ action) => () => {
    post('run-state', { vm: address, action }).catch((error) => onProblem(error.message));
  };
  const about = (/** @type {string} */ what) => ({ 'aria-label': `${what} ${address}` });
  return element(
    'tr',
    {},
    element('th', { scope: 'row' }),
    element('td'),
    element('td'),
    element('td'),
    element(
      'td',
      {},
      element(
        'div',
        { class: 'actions' },
        button('Save…', () => openSave(address, directories()), about('Save')),
        button('Pause', change('stop'), about('Pause')),
        button('Continue', change('cont'), about('Continue')),
        button('Monitor…', () => openMonitor(address), about('Monitor of')),
      ),
    ),
  );
}

/**
 * @param {HTMLTableRowElement} row
 * @param {VmEntry} vm
 */
function updateRow(row, vm) {
  const [name, state, qemu, pid, actions] = row.cells;
  if (!name || !state || !qemu || !pid || !actions) return;
  const address = vm.name === undefined ? undefined : element('span', { class: 'soft' }, vm.address);
  fill(name, vm.name ?? (vm.kind === 'builtin' ? 'builtin guest' : vm.address), address);
  if (vm.kind === 'builtin' && vm.name === undefined)
    name.append(element('span', { class: 'soft' }, vm.address));
  fill(state, ...stateOf(vm));
  fill(
    qemu,
    vm.kind === 'builtin' ? 'mapram' : (vm.version ?? ''),
    vm.machine === undefined ? undefined : element('span', { class: 'soft' }, vm.machine),
  );
  fill(pid, vm.pid === undefined ? '' : String(vm.pid));
  const [save, pause, proceed, monitor] = actions.querySelectorAll('button');
  const free = vm.monitor === 'open' && vm.operation === undefined;
  const running = vm.runState === 'running';
  setEnabled(save, free && !vm.waiting);
  setEnabled(pause, free);
  pause?.toggleAttribute('hidden', !running);
  setEnabled(proceed, free);
  proceed?.toggleAttribute('hidden', running || vm.waiting || vm.runState === undefined);
  setEnabled(monitor, free);
}

/**
 * @param {string} vm
 * @param {readonly DirectoryEntry[]} directories
 */
function openSave(vm, directories) {
  const directory = choiceField(
    'Directory',
    directories.map(({ path }) => [path, path]),
  );
  const name = textField(
    'File name',
    `${suggestName(vm)}.mapram`,
    'It appears when it is complete and on disk.',
  );
  const { nodes, values } = transferFields();
  const method = choiceField('Method', [
    ['auto', 'auto: what fits this VM'],
    ['shared', 'shared: mapram copies the RAM of the stopped VM'],
    ['native', 'native: QEMU 9.1 or later writes the file'],
  ]);
  const afterwards = choiceField('Afterwards', [
    ['', 'as it was before'],
    ['cont', 'running'],
    ['stop', 'stopped'],
    ['quit', 'ended'],
  ]);
  const live = checkField('Live', false, 'The VM runs on while its memory is saved.');
  const force = checkField('Replace', false, 'An existing file of this name, once the new one is complete.');
  openForm({
    title: `Save ${vm}`,
    submit: 'Save',
    content: [directory.node, name.node, ...nodes, method.node, afterwards.node, live.node, force.node],
    send: () =>
      post('operations', {
        kind: 'save',
        vm,
        directory: directory.input.value,
        name: name.input.value,
        ...values(),
        method: method.input.value,
        ...(afterwards.input.value === '' ? {} : { afterwards: afterwards.input.value }),
        live: live.input.checked,
        force: force.input.checked,
      }),
  });
}

/** @param {string} vm */
function suggestName(vm) {
  const last = vm.split('/').at(-1) ?? '';
  return (
    last
      .replace(/\.(qmp|sock|socket|monitor)$/, '')
      .replaceAll(/[^\w.-]/g, '-')
      .replace(/^\.+/, '') || 'vm'
  );
}
