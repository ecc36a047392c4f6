/** The list of VMs and what can be done with them. */
import { post } from './address.js';
import { openQuestion } from './dialog.js';
import { button, element, fill, pill, setUsable, soft } from './elements.js';
import { createListing } from './listing.js';
import { menuButton } from './menu.js';
import { showFailure } from './messages.js';
import { openMonitor } from './monitor.js';
import { openSave } from './save-form.js';

/** @import { VmEntry } from '../vm-list.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { OperationEntry } from '../operations.js' */
/** @import { State } from './elements.js' */

/** @type {Record<string, State>} */
const RUN_STATES = {
  running: ['play', 'running', 'good'],
  paused: ['pause', 'paused', 'warn'],
  suspended: ['pause', 'asleep (S3)', 'warn'],
  prelaunch: ['pause', 'not started yet', 'warn'],
  postmigrate: ['pause', 'paused after a migration', 'warn'],
  inmigrate: ['down', 'being loaded', 'active'],
  shutdown: ['stop', 'shut down'],
  'io-error': ['warning', 'disk error', 'bad'],
  'internal-error': ['warning', 'internal error', 'bad'],
  'guest-panicked': ['warning', 'guest panicked', 'bad'],
  watchdog: ['warning', 'stopped by its watchdog', 'bad'],
};

/** What an operation does to a VM. @type {Record<string, string>} */
const DOINGS = { save: 'being saved', restore: 'being loaded' };

/**
 * @param {VmEntry} vm
 * @param {OperationEntry} [operation] the one that has it in hand
 * @returns {State}
 */
export function stateOfVm({ monitor, runState = '', waiting, operation: id }, operation) {
  if (id !== undefined) return ['ring', DOINGS[operation?.kind ?? ''] ?? `operation ${id}`, 'active'];
  if (monitor === 'busy') return ['lock', 'busy'];
  if (monitor === 'failed') return ['cross', 'does not answer', 'bad'];
  if (waiting) return ['down', 'waits for a file', 'active'];
  return RUN_STATES[runState] ?? ['dot', runState];
}

/**
 * VMs of the same name, such as clones, are told apart by the folder of their socket.
 *
 * @param {readonly VmEntry[]} vms
 * @param {string} address
 */
export function nameOfVm(vms, address) {
  const vm = vms.find((candidate) => candidate.address === address);
  const name = vm?.name ?? (vm?.kind === 'builtin' ? address : undefined);
  if (name === undefined) return shortName(address);
  const namesakes = vms.filter((other) => other.name === vm?.name).length;
  const folder = address.split('/').at(-2);
  if (vm?.kind === 'builtin' || namesakes < 2 || folder === undefined) return name;
  return /^clone-\d+$/.test(folder) ? `${name} · ${folder}` : name;
}

/**
 * A socket that is called after what it is says less than its folder.
 *
 * @param {string} address
 */
export function shortName(address) {
  const [folder = '', last = ''] = address.split('/').slice(-2);
  const name = last.replace(/\.(qmp|sock|socket|monitor)$/, '') || address;
  return /^(qmp|monitor)$/.test(name) && folder !== '' ? folder : name;
}

/**
 * @typedef {object} VmContext
 * @property {() => readonly VmEntry[]} vms
 * @property {() => readonly DirectoryEntry[]} directories
 * @property {(id: number | undefined) => OperationEntry | undefined} operation
 */

/**
 * @param {Element} place
 * @param {Element} tools
 * @param {VmContext} context
 */
export function createVmList(place, tools, context) {
  const title = (/** @type {VmEntry} */ { address }) => nameOfVm(context.vms(), address);
  return createListing(place, tools, {
    label: 'Virtual machines',
    columns: [
      { title: 'VM' },
      { title: 'State', style: 'w-state state', plain: true },
      { title: 'QEMU', style: 'w-version' },
      { title: 'Actions', style: 'w-actions' },
    ],
    keyOf: ({ address }) => address,
    words: (vm) => [title(vm), vm.address, vm.machine, vm.version, stateOfVm(vm)[1], vm.pid].join(' '),
    orders: [
      ['by name', (one, other) => title(one).localeCompare(title(other), 'en', { numeric: true })],
      ['by state', (one, other) => stateOfVm(one)[1].localeCompare(stateOfVm(other)[1])],
    ],
    actions: ({ address }) => createActions(address, context),
    update: (vm, cells, actions) => updateRow(vm, cells, actions, context),
  });
}

/**
 * @param {string} address
 * @param {VmContext} context
 * @returns {Node[]}
 */
function createActions(address, { vms, directories }) {
  const entry = () => vms().find((vm) => vm.address === address);
  const change = (/** @type {string} */ action) => () =>
    void post('run-state', { vm: address, action }).catch(showFailure);
  const about = (/** @type {string} */ what) => ({ 'aria-label': `${what} ${address}`, 'data-part': what });
  return [
    button('Save…', () => openSave(address, directories()), about('Save')),
    button('Pause', change('stop'), about('Pause')),
    button('Continue', change('cont'), about('Continue')),
    menuButton(address, () => {
      const vm = entry();
      const busy = vm && whyNotFree(vm);
      return [
        { label: 'Migration settings…', act: () => openMonitor(address), reason: busy },
        undefined,
        { label: 'End…', act: () => askToEnd(address, nameOfVm(vms(), address)), reason: busy, danger: true },
      ];
    }),
  ];
}

/**
 * @param {string} address
 * @param {string} name
 */
function askToEnd(address, name) {
  openQuestion(
    `End ${name}?`,
    'End VM',
    [
      `The QEMU at ${address} is asked to quit, as if its power was cut: whatever the guest has not written to its disks is lost.`,
      'Save it first if you want to continue it later.',
    ],
    () => post('run-state', { vm: address, action: 'quit' }),
  );
}

/** @param {VmEntry} vm */
function whyNotFree({ monitor, operation, message }) {
  if (operation !== undefined) return 'An operation uses this VM: wait for it, or cancel it.';
  if (monitor === 'busy') return 'Another program is connected to its monitor.';
  if (monitor === 'failed') return `It does not answer: ${message}`;
  return undefined;
}

/**
 * @param {VmEntry} vm
 * @param {HTMLElement[]} cells
 * @param {HTMLElement} actions
 * @param {VmContext} context
 */
function updateRow(vm, [name, state, qemu], actions, { vms, operation }) {
  if (!name || !state || !qemu) return;
  const { kind, address, version, machine, pid, migration = 'none', message } = vm;
  const title = nameOfVm(vms(), address);
  fill(
    name,
    kind === 'builtin' ? 'builtin guest' : title,
    element('span', { class: 'soft line path' }, address),
  );
  const detail =
    vm.monitor === 'open' && !['none', 'completed'].includes(migration) && vm.operation === undefined
      ? `last migration: ${migration}`
      : message;
  fill(state, pill(stateOfVm(vm, operation(vm.operation))), detail === undefined ? undefined : soft(detail));
  fill(
    qemu,
    ...(version === undefined ? [] : [kind === 'builtin' ? 'mapram' : version]),
    ...(machine === undefined ? [] : [soft(machine)]),
    ...(pid === undefined ? [] : [soft(`process ${pid}`)]),
  );
  const control = (/** @type {string} */ part) => actions.querySelector(`[data-part="${part}"]`);
  const busy = whyNotFree(vm);
  const running = vm.runState === 'running';
  setUsable(
    control('Save'),
    busy ?? (vm.waiting ? 'It has nothing to save yet: it waits for a file.' : undefined),
  );
  setUsable(control('Pause'), busy);
  control('Pause')?.toggleAttribute('hidden', !running);
  setUsable(control('Continue'), busy);
  control('Continue')?.toggleAttribute('hidden', running || vm.waiting || vm.runState === undefined);
}
