/** The page: keeps what the server tells and shows it. */
import { addressOf, post } from './address.js';
import { button, byId, element, fill, reconcile, setAttribute, setEnabled } from './elements.js';
import { describeEnd, isUnderWay, showOperations } from './operations.js';
import { showSaved } from './saved.js';
import { rate, size } from './text.js';
import { showVms } from './vms.js';

/** @import { DirectoryEntry } from '../directories.js' */
/** @import { OperationEntry } from '../operations.js' */
/** @import { SavedEntry } from '../saved-list.js' */
/** @import { VmEntry } from '../vm-list.js' */

/** @type {{ kinds: string[], directories: DirectoryEntry[], vms: VmEntry[], saved: SavedEntry[], operations: Map<number, OperationEntry> }} */
const state = { kinds: [], directories: [], vms: [], saved: [], operations: new Map() };

/** @param {string} id */
function bodyOf(id) {
  const [body] = /** @type {HTMLTableElement} */ (byId(id)).tBodies;
  if (body === undefined) throw new Error(`${id} has no body`);
  return body;
}

/** @param {string} text read out, and shown where it is a problem */
function announce(text) {
  byId('announcement').textContent = text;
}

/** @param {string} problem */
function onProblem(problem) {
  announce(problem);
  const connection = byId('connection');
  connection.className = 'bad';
  connection.textContent = `✗ ${problem}`;
}

const show = {
  operations() {
    const operations = [...state.operations.values()];
    byId('operations-empty').hidden = operations.length > 0;
    showOperations(byId('operations'), operations, state.directories, onProblem);
    const active = operations.filter(isUnderWay).length;
    document.title = active === 0 ? 'mapram' : `(${active}) mapram`;
  },
  vms() {
    byId('vms').hidden = state.vms.length === 0;
    byId('vms-empty').hidden = state.vms.length > 0;
    showVms(bodyOf('vms'), state.vms, { directories: () => state.directories, onProblem });
  },
  saved() {
    byId('saved').hidden = state.saved.length === 0;
    byId('saved-empty').hidden = state.saved.length > 0;
    showSaved(bodyOf('saved'), state.saved, {
      vms: () => state.vms,
      directories: () => state.directories,
      entry: (file) => state.saved.find((entry) => entry.file === file),
      has: (kind) => state.kinds.includes(kind),
    });
  },
  directories() {
    reconcile(
      bodyOf('directories'),
      state.directories,
      ({ path }) => path,
      ({ path }) => {
        const measure = button(
          'Measure',
          () => void post('speed', { directory: path }).catch((error) => onProblem(error.message)),
        );
        setAttribute(measure, 'aria-label', `Measure the disk of ${path}`);
        const numbers = Array.from({ length: 3 }, () => element('td', { class: 'number' }));
        return element(
          'tr',
          {},
          element('th', { scope: 'row' }, path),
          ...numbers,
          element('td'),
          element('td', {}, measure),
        );
      },
      (row, { freeBytes, speed, measuring, message }) => {
        const [, free, write, read, how, actions] = row.cells;
        if (!free || !write || !read || !how || !actions) return;
        fill(free, size(freeBytes));
        fill(write, speed ? rate(speed.writeRate) : '');
        fill(read, speed ? rate(speed.readRate) : '');
        const trial =
          speed && `${size(speed.bytes)}, ${speed.direct ? 'direct I/O' : 'through the page cache'}`;
        fill(how, measuring ? 'being measured …' : (message ?? trial ?? 'not measured'));
        setEnabled(actions.querySelector('button'), !measuring);
      },
    );
  },
};

/** @type {Record<string, (data: any) => void>} */
const handlers = {
  hello({ version, operations }) {
    state.kinds = operations;
    byId('version').textContent = version;
  },
  directories(data) {
    state.directories = data;
    show.directories();
    show.operations();
  },
  vms(data) {
    state.vms = data;
    show.vms();
  },
  saved(data) {
    state.saved = data;
    show.saved();
  },
  operations(data) {
    state.operations = new Map(data.map((/** @type {OperationEntry} */ entry) => [entry.id, entry]));
    show.operations();
  },
  operation(data) {
    const before = state.operations.get(data.id);
    state.operations.set(data.id, data);
    show.operations();
    if (before === undefined) announce(`${data.title}: begun.`);
    else if (isUnderWay(before) && !isUnderWay(data)) announce(describeEnd(data));
  },
  'operation-gone'({ id }) {
    state.operations.delete(id);
    show.operations();
  },
  ready() {
    const connection = byId('connection');
    connection.className = '';
    connection.textContent = 'Connected';
  },
};

const events = new EventSource(addressOf('events'));
for (const [name, handle] of Object.entries(handlers)) {
  events.addEventListener(name, (event) => handle(JSON.parse(/** @type {MessageEvent} */ (event).data)));
}
events.addEventListener('error', () => {
  const lost = events.readyState === EventSource.CLOSED;
  onProblem(lost ? 'mapram ui has ended; this page can be closed' : 'connection lost, trying again …');
});

byId('refresh').addEventListener('click', () => {
  post('refresh').then(
    () => announce('Looked again.'),
    (error) => onProblem(error.message),
  );
});
