/** The table of saved VMs and what can be done with them. */
import { get, post } from './address.js';
import { openForm, openView } from './dialog.js';
import { button, element, fill, marked, reconcile, setEnabled } from './elements.js';
import { checkField, choiceField, numberField, textField, transferFields } from './forms.js';
import { memoryMapSummary, memoryMapView } from './memory-map.js';
import { moment, percent, plural, size } from './text.js';

/** @import { SavedEntry } from '../saved-list.js' */
/** @import { SavedDevice } from '../saved-devices.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { ResumePlan } from '../../snapshot/resume/resume.js' */
/** @import { VmEntry } from '../vm-list.js' */

const BUILTIN_MACHINE = 'mapram-builtin-1.0';

/** @type {Record<SavedEntry['state'], [sign: string, word: string, tone?: string]>} */
const STATES = {
  complete: ['✓', 'complete', 'good'],
  incomplete: ['✗', 'incomplete', 'bad'],
  unreadable: ['✗', 'cannot be read', 'bad'],
};

/**
 * @typedef {object} SavedContext
 * @property {() => readonly VmEntry[]} vms
 * @property {() => readonly DirectoryEntry[]} directories
 * @property {(file: string) => SavedEntry | undefined} entry
 * @property {(kind: string) => boolean} has whether this mapram has an operation
 */

/**
 * @param {Element} body
 * @param {readonly SavedEntry[]} saved
 * @param {SavedContext} context
 */
export function showSaved(body, saved, context) {
  reconcile(
    body,
    saved,
    ({ file }) => file,
    ({ file, name }) => createRow(file, name, context),
    (row, entry) => updateRow(row, entry, context),
  );
}

/**
 * @param {string} file
 * @param {string} name
 * @param {SavedContext} context
 */
function createRow(file, name, context) {
  const cells = Array.from({ length: 5 }, (_, index) =>
    element('td', { class: index === 2 || index === 3 ? 'number' : undefined }),
  );
  const about = (/** @type {string} */ what) => ({ 'aria-label': `${what} ${name}` });
  const actions = [
    button('Details…', () => openDetails(context.entry(file)), about('Details of')),
    ...(context.has('verify') ? [button('Verify…', () => openVerify(file), about('Verify'))] : []),
    ...(context.has('resume')
      ? [button('Resume…', () => openResume(context.entry(file)), about('Resume'))]
      : []),
    ...(context.has('fork')
      ? [button('Fork…', () => openFork(context.entry(file), context.directories()), about('Fork'))]
      : []),
    button('Restore…', () => openRestore(context.entry(file), context.vms()), about('Restore')),
  ];
  return element(
    'tr',
    {},
    element('th', { scope: 'row' }),
    ...cells,
    element('td', {}, element('div', { class: 'actions' }, ...actions)),
  );
}

/**
 * @param {HTMLTableRowElement} row
 * @param {SavedEntry} entry
 * @param {SavedContext} _context
 */
function updateRow(row, entry, _context) {
  const [name, state, machine, memory, disk, saved, actions] = row.cells;
  if (!name || !state || !machine || !memory || !disk || !saved || !actions) return;
  const { image, manifest } = entry;
  fill(name, entry.name, element('span', { class: 'soft' }, entry.directory));
  fill(
    state,
    marked(...STATES[entry.state]),
    ...entry.problems.map((problem) => element('span', { class: 'soft' }, problem)),
  );
  fill(
    machine,
    image?.machine ?? '',
    element(
      'span',
      { class: 'soft' },
      [image?.container === 'libvirt' ? 'libvirt' : '', manifest?.qemu ? `QEMU ${manifest.qemu}` : '']
        .filter((part) => part !== '')
        .join(', '),
    ),
  );
  fill(
    memory,
    image === undefined ? '' : size(image.ramBytes),
    image === undefined
      ? undefined
      : element('span', { class: 'soft' }, `${size(image.normalPages * image.pageSize)} with contents`),
  );
  fill(disk, size(entry.allocatedBytes));
  fill(
    saved,
    moment(manifest?.createdAt ?? entry.modifiedAt),
    manifest === undefined
      ? undefined
      : element(
          'span',
          { class: 'soft' },
          [
            manifest.checksums ? `checksums ${manifest.checksums}` : 'no checksums',
            manifest.signed ? 'signed' : '',
          ]
            .filter((part) => part !== '')
            .join(', '),
        ),
  );
  for (const [index, control] of actions.querySelectorAll('button').entries()) {
    setEnabled(control, index === 0 ? image !== undefined : entry.state === 'complete');
  }
}

/** @param {SavedEntry | undefined} entry */
function openDetails(entry) {
  if (entry?.image === undefined) return;
  const { file, image, manifest } = entry;
  const map = element('div', {}, 'Reading …');
  const devices = element('div', {}, 'Reading …');
  /** @type {[string, string][]} */
  const facts = [
    ['file', file],
    ['form', image.container === 'libvirt' ? 'libvirt save image' : 'QEMU mapped-ram file'],
    ['machine', image.machine],
    ['memory', `${size(image.ramBytes)} in ${plural(image.blocks.length, 'block')}`],
    [
      'pages with contents',
      `${image.normalPages.toLocaleString('en')} of ${size(image.pageSize)} (${percent((image.normalPages * image.pageSize) / (image.ramBytes || 1))})`,
    ],
    ['file size', `${size(entry.bytes)}, ${size(entry.allocatedBytes)} on disk`],
    ['capabilities', image.capabilities.join(', ') || 'none'],
  ];
  if (manifest !== undefined) {
    facts.push(
      ['saved by mapram', `${moment(manifest.createdAt)}, id ${manifest.id}`],
      ['VM was', manifest.runState],
      ['checksums', manifest.checksums ?? 'none'],
      ['signed', manifest.signed ? 'yes' : 'no'],
    );
  }
  for (const problem of entry.problems) facts.push(['problem', problem]);
  openView(entry.name, [
    element('dl', {}, ...facts.flatMap(([name, text]) => [element('dt', {}, name), element('dd', {}, text)])),
    element('h3', {}, 'Memory'),
    element(
      'p',
      {},
      element(
        'a',
        { href: `report?file=${encodeURIComponent(file)}`, target: '_blank', rel: 'noopener' },
        'What the memory holds: text, code, data, and what compresses (another page)',
      ),
    ),
    map,
    element('h3', {}, 'Devices'),
    devices,
  ]);
  const show = (/** @type {HTMLElement} */ target, /** @type {Promise<Node[]>} */ pending) => {
    pending.then(
      (nodes) => target.replaceChildren(...nodes),
      (error) => target.replaceChildren(element('p', { class: 'bad' }, error.message)),
    );
  };
  show(
    map,
    get('map', { file }).then((answer) => [
      element('p', {}, memoryMapSummary(answer)),
      ...memoryMapView(answer),
    ]),
  );
  show(
    devices,
    get('devices', { file }).then((answer) => deviceList(answer)),
  );
}

/**
 * @param {readonly SavedDevice[]} devices
 * @returns {Node[]}
 */
function deviceList(devices) {
  const search = element('input', {
    type: 'search',
    'aria-label': 'Search devices and fields',
    placeholder: 'Search devices and fields',
  });
  const count = element('p', { role: 'status', class: 'soft' });
  const entries = devices.map((device) => {
    const text =
      device.values === undefined
        ? 'The file does not describe its fields.'
        : JSON.stringify(device.values, null, 2);
    const node = element(
      'details',
      {},
      element(
        'summary',
        {},
        `${device.idstr} ${device.instanceId}, version ${device.version}, ${size(device.length)}`,
      ),
    );
    // Long ones are written into the page when somebody looks.
    node.addEventListener('toggle', () => {
      if (node.open && node.children.length < 2) node.append(element('pre', { tabindex: 0 }, text));
    });
    return { node, words: `${device.idstr}\n${text}`.toLowerCase() };
  });
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const { node, words } of entries) {
      node.hidden = !words.includes(wanted);
      if (!node.hidden) shown += 1;
    }
    count.textContent = `${shown} of ${plural(entries.length, 'device')}`;
  };
  search.addEventListener('input', filter);
  filter();
  return [search, count, ...entries.map(({ node }) => node)];
}

/** @param {string} file */
function openVerify(file) {
  const { nodes, values } = transferFields();
  openForm({
    title: `Verify ${file}`,
    submit: 'Verify',
    content: [element('p', {}, 'Reads the whole file and holds it against its checksums.'), ...nodes],
    send: () => post('operations', { kind: 'verify', file, ...values() }),
    ready: true,
  });
}

/**
 * @param {SavedEntry | undefined} entry
 * @param {readonly VmEntry[]} vms
 */
function openRestore(entry, vms) {
  if (entry === undefined) return;
  const { file, image } = entry;
  /** @type {(readonly [string, string])[]} */
  const targets = vms
    .filter(({ waiting, operation }) => waiting && operation === undefined)
    .map(({ address, name }) => [address, name === undefined ? address : `${name}: ${address}`]);
  if (image?.machine === BUILTIN_MACHINE) targets.push(['builtin', 'a new builtin guest in this mapram']);
  if (targets.length === 0) {
    openView(`Restore ${entry.name}`, [
      element(
        'p',
        {},
        'No VM waits for a file. Start QEMU as it was started when it was saved, with these added:',
      ),
      element('pre', { tabindex: 0 }, '-incoming defer -qmp unix:PATH,server=on,wait=off'),
    ]);
    return;
  }
  const target = choiceField('Into', targets, 'A VM that was started with -incoming defer.');
  const { nodes, values } = transferFields();
  const cont = checkField('Continue', false, 'Let the VM run afterwards, also when it was saved paused.');
  openForm({
    title: `Restore ${entry.name}`,
    submit: 'Restore',
    content: [target.node, ...nodes, cont.node],
    send: () =>
      post('operations', {
        kind: 'restore',
        file,
        vm: target.input.value,
        ...values(),
        cont: cont.input.checked,
      }),
  });
}

/**
 * Shows what would be started before a form for it is offered.
 *
 * @param {SavedEntry | undefined} entry
 * @param {string} verb
 * @param {(file: string, plan: ResumePlan, shown: Node[]) => void} offer
 */
async function withPlan(entry, verb, offer) {
  if (entry === undefined) return;
  const { file, name } = entry;
  /** @type {ResumePlan} */
  let plan;
  try {
    plan = await get('plan', { file });
  } catch (error) {
    openView(`${verb} ${name}`, [
      element('p', { class: 'bad' }, /** @type {Error} */ (error).message),
      element('p', {}, 'On the command line more can be given:'),
      element('pre', { tabindex: 0 }, `mapram ${verb.toLowerCase()} ${file} --help`),
    ]);
    return;
  }
  offer(file, plan, [
    element('p', {}, 'The file says how its VM was started. This would be run:'),
    element('pre', { tabindex: 0, class: 'command' }, plan.command.join(' ')),
    element('p', { class: 'soft' }, `In ${plan.workingDirectory}. It goes on when mapram ui ends.`),
    ...plan.warnings.map((warning) => element('p', {}, marked('⚠', warning))),
    ...(plan.trust.reason === undefined
      ? []
      : [element('p', {}, marked('⚠', `This is not run unasked: ${plan.trust.reason}.`))]),
  ]);
}

/** @param {ResumePlan} plan */
function launchFields({ trust: { origin } }) {
  const trust = checkField(
    'Trust',
    false,
    'Run this command line although somebody else may have written it.',
  );
  const paused = checkField('Paused', false, 'Leave the guest stopped.');
  const disks = checkField('Changed disks', false, 'Although disks have changed since the VM was saved.');
  return {
    nodes: [...(origin === 'unknown' ? [trust.node] : []), paused.node, disks.node],
    values: () => ({
      trust: trust.input.checked,
      paused: paused.input.checked,
      allowChangedDisks: disks.input.checked,
    }),
  };
}

/** @param {SavedEntry | undefined} entry */
function openResume(entry) {
  return withPlan(entry, 'Resume', (file, plan, shown) => {
    const qmp = textField('Monitor socket', plan.qmp, 'Where QMP is to listen.');
    const { nodes, values } = launchFields(plan);
    openForm({
      title: `Resume ${entry?.name}`,
      submit: 'Resume',
      content: [...shown, qmp.node, ...nodes],
      send: () =>
        post('operations', {
          kind: 'resume',
          file,
          confirmed: plan.fingerprint,
          ...(qmp.input.value === plan.qmp ? {} : { qmp: qmp.input.value }),
          ...values(),
        }),
    });
  });
}

/**
 * @param {SavedEntry | undefined} entry
 * @param {readonly DirectoryEntry[]} directories
 */
function openFork(entry, directories) {
  return withPlan(entry, 'Fork', (file, plan, shown) => {
    const count = numberField('Clones', 2, { min: 1, max: 64 });
    const directory = choiceField(
      'Folders',
      [['', 'temporary'], ...directories.map(({ path }) => /** @type {const} */ ([path, `in ${path}`]))],
      'Where each clone gets a folder for its sockets, logs and disks.',
    );
    const name = textField(
      'Name',
      `${entry?.name.replace(/\.mapram$/, '')}-clones`,
      'Of the new folder, if it is not temporary.',
    );
    const { nodes, values } = launchFields(plan);
    openForm({
      title: `Fork ${entry?.name}`,
      submit: 'Fork',
      content: [...shown, count.node, directory.node, name.node, ...nodes],
      send: () =>
        post('operations', {
          kind: 'fork',
          file,
          confirmed: plan.fingerprint,
          count: count.input.valueAsNumber,
          ...(directory.input.value === ''
            ? {}
            : { directory: directory.input.value, name: name.input.value }),
          ...values(),
        }),
    });
  });
}
