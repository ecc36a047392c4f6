/** What is in a file: facts, a map of its memory, its devices. */
import { get } from './address.js';
import { openView } from './dialog.js';
import { element } from './elements.js';
import { memoryMapSummary, memoryMapView } from './memory-map.js';
import { moment, percent, plural, size } from './text.js';

/** @import { SavedEntry } from '../saved-list.js' */
/** @import { SavedDevice } from '../saved-devices.js' */

/** @param {SavedEntry} entry */
export function openDetails(entry) {
  if (entry.image === undefined) return;
  const { file } = entry;
  const map = element('div', {}, 'Reading …');
  const devices = element('div', {}, 'Reading …');
  openView(entry.name, [
    element(
      'dl',
      { class: 'facts' },
      ...factsOf(entry).flatMap(([name, text]) => [element('dt', {}, name), element('dd', {}, text)]),
    ),
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
      (error) => target.replaceChildren(element('p', { class: 'problem' }, error.message)),
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
 * @param {SavedEntry} entry
 * @returns {[name: string, text: string][]}
 */
function factsOf({ file, bytes, allocatedBytes, image, manifest, problems, checked }) {
  if (image === undefined) return [];
  const { ramBytes, blocks, normalPages, pageSize, capabilities } = image;
  /** @type {[string, string][]} */
  const facts = [
    ['File', file],
    ['Form', image.container === 'libvirt' ? 'libvirt save image' : 'QEMU mapped-ram file'],
    ['Machine', image.machine],
    ['Memory', `${size(ramBytes)} in ${plural(blocks.length, 'block')}`],
    [
      'Pages with contents',
      `${normalPages.toLocaleString('en')} of ${size(pageSize)} (${percent((normalPages * pageSize) / (ramBytes || 1))})`,
    ],
    ['Size', `${size(bytes)}, ${size(allocatedBytes)} on disk`],
    ['Capabilities', capabilities.join(', ') || 'none'],
  ];
  if (manifest !== undefined) {
    facts.push(
      [
        'Saved',
        `${moment(manifest.createdAt)}${manifest.qemu === undefined ? '' : `, by QEMU ${manifest.qemu}`}`,
      ],
      ['Identity', manifest.id],
      ['VM was', manifest.runState],
      ['Command line', manifest.launch ? 'recorded: it can be resumed' : 'not recorded'],
      ['Checksums', manifest.checksums ?? 'none'],
      ['Signature', manifest.signed ? 'signed' : 'none'],
    );
  }
  if (checked !== undefined)
    facts.push([
      'Verified',
      `${moment(checked.at)}: ${checked.ok ? 'sound' : `damaged: ${checked.problem}`}`,
    ]);
  for (const problem of problems) facts.push(['Problem', problem]);
  return facts;
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
  return [search, count, element('div', { class: 'devices' }, ...entries.map(({ node }) => node))];
}
