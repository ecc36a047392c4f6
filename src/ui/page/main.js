/** The page: keeps what the server sends and shows it. */
import { addressOf, post } from './address.js';
import { createDirectoryList } from './directories.js';
import { byId, fill, icon } from './elements.js';
import { openFork, openResume } from './launch-forms.js';
import { showFailure, showMessage } from './messages.js';
import { describeEnd, isUnderWay, showOperations } from './operations.js';
import { showOverview } from './overview.js';
import { openSave } from './save-form.js';
import { createSavedList } from './saved.js';
import { openConvert, openDiff, openRestore, openVerify } from './saved-forms.js';
import { createVmList } from './vms.js';

/** @import { DirectoryEntry } from '../directories.js' */
/** @import { OperationEntry } from '../operations.js' */
/** @import { SavedEntry } from '../saved-list.js' */
/** @import { VmEntry } from '../vm-list.js' */

/** @type {{ directories: DirectoryEntry[], vms: VmEntry[], saved: SavedEntry[], operations: Map<number, OperationEntry> }} */
const state = { directories: [], vms: [], saved: [], operations: new Map() };

const context = {
  vms: () => state.vms,
  saved: () => state.saved,
  directories: () => state.directories,
  operation: (/** @type {number | undefined} */ id) =>
    id === undefined ? undefined : state.operations.get(id),
};

const updateVms = createVmList(byId('vms'), byId('vms-tools'), context);
const updateSaved = createSavedList(byId('saved'), byId('saved-tools'), context);
const updateDirectories = createDirectoryList(byId('directories'));

/** @param {string} text read out */
function announce(text) {
  byId('announcement').textContent = text;
}

/**
 * The form of an operation that failed, with everything that was entered.
 *
 * @param {OperationEntry} operation
 * @returns {(() => void) | undefined} nothing where what it was about is gone
 */
function retry({ kind, request: sent, file, vm, error }) {
  const request = /** @type {Record<string, any>} */ (sent ?? {});
  const entry = state.saved.find((candidate) => candidate.file === file);
  const problem = error?.code === 'CANCELLED' ? '' : (error?.message ?? '');
  if (kind === 'save' && vm !== undefined) {
    return state.vms.some(({ address }) => address === vm)
      ? () => openSave(vm, state.directories, request, problem)
      : undefined;
  }
  if (entry === undefined) return undefined;
  /** @type {Record<string, () => void>} */
  const forms = {
    restore: () => openRestore(entry, state.vms, request, problem),
    verify: () => openVerify(entry.file, request, problem),
    resume: () => void openResume(entry, request, problem),
    fork: () => void openFork(entry, state.directories, request, problem),
    diff: () => openDiff(entry, state.saved, request, problem),
    convert: () => openConvert(entry, state.directories, request, problem),
  };
  return forms[kind];
}

const show = {
  operations() {
    const operations = [...state.operations.values()];
    byId('operations-empty').hidden = operations.length > 0;
    showOperations(byId('operations'), byId('operations-tools'), operations, {
      directories: state.directories,
      retry,
    });
    const active = operations.filter(isUnderWay).length;
    document.title = active === 0 ? 'mapram' : `(${active}) mapram`;
    showOverview(byId('overview'), state);
  },
  vms() {
    byId('vms-empty').hidden = state.vms.length > 0;
    updateVms(state.vms);
    showOverview(byId('overview'), state);
  },
  saved() {
    byId('saved-empty').hidden = state.saved.length > 0;
    updateSaved(state.saved);
    showOverview(byId('overview'), state);
  },
};

byId('operations').addEventListener('shownchange', show.operations);

/** @type {Record<string, (data: any) => void>} */
const handlers = {
  hello({ version }) {
    byId('version').textContent = version;
  },
  directories(data) {
    state.directories = data;
    updateDirectories(data);
    show.operations();
  },
  vms(data) {
    state.vms = data;
    show.vms();
    show.operations();
  },
  saved(data) {
    state.saved = data;
    show.saved();
  },
  operations(data) {
    state.operations = new Map(data.map((/** @type {OperationEntry} */ entry) => [entry.id, entry]));
    show.operations();
    show.vms();
  },
  operation(data) {
    const before = state.operations.get(data.id);
    state.operations.set(data.id, data);
    show.operations();
    // Its VM says what is done with it.
    if (before === undefined) show.vms();
    if (before === undefined) announce(`${data.title}: begun.`);
    else if (isUnderWay(before) && !isUnderWay(data)) announce(describeEnd(data));
  },
  'operation-gone'({ id }) {
    state.operations.delete(id);
    show.operations();
  },
  ready() {
    const connection = byId('connection');
    connection.className = 'connection open';
    connection.textContent = 'Connected';
  },
};

const events = new EventSource(addressOf('events'));
for (const [name, handle] of Object.entries(handlers)) {
  events.addEventListener(name, (event) => handle(JSON.parse(/** @type {MessageEvent} */ (event).data)));
}
events.addEventListener('error', () => {
  const ended = events.readyState === EventSource.CLOSED;
  const connection = byId('connection');
  connection.className = 'connection lost';
  connection.textContent = ended
    ? 'mapram ui has ended; you can close this page'
    : 'connection lost, trying again …';
});

const refresh = byId('refresh');
fill(refresh, icon('refresh'), 'Refresh');
refresh.addEventListener('click', () => {
  post('refresh').then(() => showMessage('VMs and files are up to date.'), showFailure);
});
