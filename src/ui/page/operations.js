/** The list of operations, each with its progress, its channels and its rate beside that of the disk. */
import { post, remove } from './address.js';
import { button, element, fill, marked, reconcile, setAttribute, setEnabled } from './elements.js';
import { createRateChart, updateRateChart } from './rate-chart.js';
import { duration, figure, percent, rate, size } from './text.js';

/** @import { OperationEntry } from '../operations.js' */
/** @import { DirectoryEntry } from '../directories.js' */

/** @type {Record<string, [sign: string, word: string, tone?: string]>} */
const STATES = {
  running: ['▶', 'under way'],
  cancelling: ['◌', 'being cancelled'],
  done: ['✓', 'done', 'good'],
  failed: ['✗', 'failed', 'bad'],
  cancelled: ['■', 'cancelled; everything was put back'],
};

/** @param {OperationEntry} operation */
export function isUnderWay({ state }) {
  return state === 'running' || state === 'cancelling';
}

/**
 * In a few words, for the line that is read out.
 *
 * @param {OperationEntry} operation
 */
export function describeEnd({ title, state, error, verdict }) {
  if (verdict !== undefined) return `${title}: damage found.`;
  return `${title}: ${STATES[state]?.[1] ?? state}${error ? `. ${error.message}` : ''}.`;
}

/**
 * @param {Element} list
 * @param {readonly OperationEntry[]} operations
 * @param {readonly DirectoryEntry[]} directories
 * @param {(problem: string) => void} onProblem
 */
export function showOperations(list, operations, directories, onProblem) {
  const newestFirst = [...operations].sort((one, other) => other.id - one.id);
  reconcile(
    list,
    newestFirst,
    ({ id }) => String(id),
    (operation) => createCard(operation, onProblem),
    (card, operation) => updateCard(card, operation, directories),
  );
}

/**
 * @param {OperationEntry} operation
 * @param {(problem: string) => void} onProblem
 */
function createCard({ id, title }, onProblem) {
  const attempt = (/** @type {Promise<unknown>} */ request) => {
    request.catch((error) => onProblem(error.message));
  };
  const cancel = button('Cancel', () => attempt(post(`operations/${id}/cancel`)), { 'data-part': 'cancel' });
  const dismiss = button('Dismiss', () => attempt(remove(`operations/${id}`)), { 'data-part': 'dismiss' });
  setAttribute(cancel, 'aria-label', `Cancel: ${title}`);
  setAttribute(dismiss, 'aria-label', `Dismiss: ${title}`);
  const chart = createRateChart();
  chart.setAttribute('data-part', 'chart');
  return element(
    'li',
    { class: 'card' },
    element(
      'div',
      { class: 'top' },
      element('h3', {}, title),
      element('div', { class: 'actions' }, cancel, dismiss),
    ),
    element('div', { 'data-part': 'state', class: 'state' }),
    element('progress', { 'data-part': 'progress', max: 1, 'aria-label': `Progress: ${title}` }),
    element('div', { 'data-part': 'figures' }),
    element('div', { 'data-part': 'channels', class: 'bars' }),
    chart,
    element('div', { 'data-part': 'outcome' }),
  );
}

/**
 * @param {Element} card
 * @param {OperationEntry} operation
 * @param {readonly DirectoryEntry[]} directories
 */
function updateCard(card, operation, directories) {
  const part = (/** @type {string} */ name) => {
    const found = card.querySelector(`[data-part="${name}"]`);
    if (found === null) throw new Error(`a card has no ${name}`);
    return found;
  };
  const { state, progress, elapsedMs, disk, rates } = operation;
  const active = isUnderWay(operation);
  part('cancel').toggleAttribute('hidden', !active);
  setEnabled(part('cancel'), state === 'running');
  part('dismiss').toggleAttribute('hidden', active);

  const [sign, word, tone] = stateOf(operation);
  const phase = active && progress ? `: ${progress.phase}` : '';
  fill(part('state'), marked(sign, word, tone), `${phase}, ${duration(elapsedMs)}`);

  const bar = part('progress');
  bar.toggleAttribute('hidden', !active);
  const known = progress !== undefined && progress.totalBytes > 0;
  setAttribute(
    bar,
    'value',
    known ? Math.min(1, progress.bytes / progress.totalBytes).toFixed(4) : undefined,
  );

  const speed = directories.find(({ path }) => path === operation.directory)?.speed;
  const diskRate = disk === 'write' ? speed?.writeRate : disk === 'read' ? speed?.readRate : undefined;
  fill(part('figures'), active && progress ? figures(progress, disk, diskRate) : undefined);
  fill(part('channels'), ...(active ? channelBars(progress, diskRate) : []));
  updateRateChart(part('chart'), rates, diskRate);
  fill(part('outcome'), ...outcome(operation));
}

/**
 * @param {OperationEntry} operation
 * @returns {[sign: string, word: string, tone?: string]}
 */
function stateOf({ state, verdict }) {
  if (verdict !== undefined) return ['✗', 'done: this file is damaged', 'bad'];
  return STATES[state] ?? ['?', state];
}

/**
 * @param {NonNullable<OperationEntry['progress']>} progress
 * @param {OperationEntry['disk']} disk
 * @param {number | undefined} diskRate
 */
function figures({ bytes, totalBytes, rate: now, remainingMs }, disk, diskRate) {
  const parts = [];
  if (totalBytes > 0) parts.push(`${size(bytes)} of ${size(totalBytes)} (${percent(bytes / totalBytes)})`);
  else if (bytes > 0) parts.push(size(bytes));
  if (now > 0) {
    const share =
      diskRate === undefined ? '' : `, ${percent(now / diskRate)} of what the disk was measured to ${disk}`;
    parts.push(`${rate(now)}${share}`);
  }
  if (remainingMs !== undefined && remainingMs > 0) parts.push(`${duration(remainingMs)} left`);
  return parts.join(' · ');
}

/**
 * A line for each channel: how much it moved and how fast, as a bar against the fastest thing known.
 *
 * @param {OperationEntry['progress']} progress
 * @param {number | undefined} diskRate
 */
function channelBars(progress, diskRate) {
  const channels = progress?.channels ?? [];
  const most = Math.max(diskRate ?? 0, ...channels.map((channel) => channel.rate), 1);
  return channels.flatMap(({ id, bytes, rate: now }) => {
    const name = `Channel ${id}`;
    return [
      element('span', {}, name),
      element('meter', { min: 0, max: most, value: now, 'aria-label': `${name}: ${rate(now)}` }),
      element('span', { class: 'number' }, rate(now)),
      element('span', { class: 'number optional' }, size(bytes)),
    ];
  });
}

/** @param {OperationEntry} operation */
function outcome({ warnings, error, verdict, result }) {
  /** @type {HTMLElement[]} */
  const parts = warnings.map((warning) => element('p', {}, marked('⚠', `Warning: ${warning}`)));
  if (error !== undefined) parts.push(element('p', { class: 'bad' }, error.message));
  if (verdict !== undefined) parts.push(element('pre', {}, verdict));
  if (result !== undefined) parts.push(resultDetails(result));
  return parts;
}

/** @param {object} result */
function resultDetails(result) {
  const members = Object.entries(result).filter(([, value]) => !(Array.isArray(value) && value.length === 0));
  const pairs = members.flatMap(([key, value]) => {
    const [name, text] = figure(key, value);
    return [element('dt', {}, name), element('dd', {}, text)];
  });
  return element('details', {}, element('summary', {}, 'Figures'), element('dl', {}, ...pairs));
}
