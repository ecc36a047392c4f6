/** The list of operations: those under way with progress, rate and channels, those that have ended in one line each. */
import { addressOf, post, remove } from './address.js';
import { button, element, fill, icon, pill, reconcile, setAttribute, setUsable, soft } from './elements.js';
import { showFailure } from './messages.js';
import { inPageWords } from './option-words.js';
import { createRateChart, updateRateChart } from './rate-chart.js';
import { tellResult } from './results.js';
import { ago, baseName, duration, percent, rate, size } from './text.js';
import { shortName } from './vms.js';

/** @import { OperationEntry } from '../operations.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { State } from './elements.js' */

/** @type {Record<string, State>} */
const STATES = {
  running: ['play', 'under way', 'active'],
  cancelling: ['ring', 'being cancelled', 'active'],
  done: ['check', 'done', 'good'],
  failed: ['cross', 'failed', 'bad'],
  cancelled: ['stop', 'cancelled; everything was put back'],
};

/** Phases of the engine, as people call them. */
const PHASES = /** @type {const} */ ([
  [/^RAM pass (\d+)$/, 'copying memory, pass $1'],
  [/^ram$/i, 'copying memory'],
  [/^devices?( state)?$/, 'copying device state'],
  [/^syncing$/, 'waiting for the disk'],
  [/^checksums$/, 'computing checksums'],
]);

/** Ended ones that are shown before somebody asks for all. */
const SHOWN_ENDED = 4;

/** @typedef {(operation: OperationEntry) => (() => void) | undefined} Retry opens the form of an operation as it was sent */

/** @param {OperationEntry} operation */
export function isUnderWay({ state }) {
  return state === 'running' || state === 'cancelling';
}

/**
 * What is done, and with what.
 *
 * @param {OperationEntry} operation
 * @returns {[heading: string, places: string]}
 */
function titleOf({ kind, title, vm, file = '', other }) {
  const name = baseName(file);
  const to = (/** @type {string | undefined} */ target) =>
    target === undefined ? file : `${file} → ${target}`;
  switch (kind) {
    case 'save':
      return [`Save ${shortName(vm ?? '')}`, `${vm} → ${file}`];
    case 'restore':
      return [`Restore ${name}`, to(vm ?? 'a new builtin guest')];
    case 'diff':
      return [`Compare ${name} with ${baseName(other ?? '')}`, to(other)];
    case 'convert':
      return [`Convert ${name}`, to(other)];
    default:
      return [title.replace(file, name), to(other)];
  }
}

/**
 * In a few words, for the line that is read out.
 *
 * @param {OperationEntry} operation
 */
export function describeEnd(operation) {
  const { title, state, error } = operation;
  const told = tellResult(operation);
  return `${title}: ${told?.sentence ?? stateOf(operation)[1]}${error && state === 'failed' ? `. ${inPageWords(error.message)}` : ''}`;
}

let allShown = false;

/**
 * @param {Element} list
 * @param {Element} tools
 * @param {readonly OperationEntry[]} operations
 * @param {{ directories: readonly DirectoryEntry[], retry: Retry }} context
 */
export function showOperations(list, tools, operations, context) {
  const newestFirst = [...operations].sort(
    (one, other) => Number(isUnderWay(other)) - Number(isUnderWay(one)) || other.id - one.id,
  );
  const ended = newestFirst.filter((operation) => !isUnderWay(operation)).length;
  const active = newestFirst.length - ended;
  const shown = allShown ? newestFirst : newestFirst.slice(0, active + SHOWN_ENDED);
  reconcile(
    list,
    shown,
    ({ id }) => String(id),
    (operation) => createCard(operation),
    (card, operation) => updateCard(card, operation, context),
  );
  if (tools.childElementCount === 0) {
    const toggle = button(
      '',
      () => {
        allShown = !allShown;
        list.dispatchEvent(new Event('shownchange'));
      },
      { class: 'quiet' },
    );
    const dismiss = button('Dismiss finished', () => void remove('operations').catch(showFailure), {
      class: 'quiet',
    });
    tools.append(toggle, dismiss);
  }
  const [toggle, dismiss] = tools.children;
  toggle?.toggleAttribute('hidden', ended <= SHOWN_ENDED);
  if (toggle) fill(toggle, allShown ? 'Show fewer' : `Show all ${newestFirst.length}`);
  dismiss?.toggleAttribute('hidden', ended === 0);
}

/** @param {OperationEntry} operation */
function createCard(operation) {
  const { id, title } = operation;
  const [heading, places] = titleOf(operation);
  const attempt = (/** @type {Promise<unknown>} */ request) => void request.catch(showFailure);
  const actions = element(
    'div',
    { class: 'actions' },
    button('Try again…', () => {}, { 'data-part': 'retry' }),
    button('Cancel', () => attempt(post(`operations/${id}/cancel`)), {
      'data-part': 'cancel',
      'aria-label': `Cancel: ${title}`,
    }),
    button(icon('cross'), () => attempt(remove(`operations/${id}`)), {
      'data-part': 'dismiss',
      class: 'square quiet',
      'aria-label': `Dismiss: ${title}`,
      title: 'Dismiss',
    }),
  );
  const chart = createRateChart();
  chart.setAttribute('data-part', 'chart');
  return element(
    'li',
    { class: 'card', id: `operation-${id}` },
    element(
      'div',
      { class: 'top' },
      element(
        'div',
        { class: 'what' },
        element('h3', {}, element('span', {}, heading), element('span', { 'data-part': 'state' })),
        element('p', { class: 'places path' }, places),
        element('div', { 'data-part': 'outcome' }),
      ),
      actions,
    ),
    element('progress', { 'data-part': 'progress', max: 1, 'aria-label': `Progress: ${title}` }),
    element('dl', { 'data-part': 'figures', class: 'figures' }),
    element(
      'div',
      { class: 'measures', 'data-part': 'measures' },
      chart,
      element('div', {
        'data-part': 'channels',
        class: 'channels',
        tabindex: 0,
        role: 'group',
        'aria-label': 'Channels',
      }),
    ),
    element('div', { 'data-part': 'details' }),
  );
}

/**
 * @param {Element} card
 * @param {OperationEntry} operation
 * @param {{ directories: readonly DirectoryEntry[], retry: Retry }} context
 */
function updateCard(card, operation, { directories, retry }) {
  const part = (/** @type {string} */ name) => {
    const found = card.querySelector(`[data-part="${name}"]`);
    if (found === null) throw new Error(`a card has no ${name}`);
    return found;
  };
  const { state, progress, elapsedMs, disk, rates } = operation;
  const active = isUnderWay(operation);
  const shown = stateOf(operation);
  card.setAttribute('data-tone', shown[2] ?? 'none');
  part('cancel').toggleAttribute('hidden', !active);
  setUsable(part('cancel'), state === 'running' ? undefined : 'It is being cancelled already.');
  part('dismiss').toggleAttribute('hidden', active);
  const again = state === 'failed' || state === 'cancelled' ? retry(operation) : undefined;
  const control = /** @type {HTMLButtonElement} */ (part('retry'));
  control.toggleAttribute('hidden', again === undefined);
  control.onclick = again ?? null;

  fill(part('state'), pill(shown));
  fill(part('outcome'), ...outcome(operation));

  const bar = part('progress');
  bar.toggleAttribute('hidden', !active);
  const known = progress !== undefined && progress.totalBytes > 0;
  setAttribute(
    bar,
    'value',
    known ? Math.min(1, progress.bytes / progress.totalBytes).toFixed(4) : undefined,
  );

  const speed = directories.find(({ path }) => path === operation.directory)?.speed;
  const measured = disk === 'write' ? speed?.writeRate : disk === 'read' ? speed?.readRate : undefined;
  fill(part('figures'), ...(active ? figures(progress, elapsedMs, disk, measured) : []));
  part('measures').toggleAttribute('hidden', !active);
  const bars = active ? channelBars(progress, measured) : [];
  fill(part('channels'), ...bars);
  part('channels').toggleAttribute('hidden', bars.length === 0);
  updateRateChart(part('chart'), active ? rates : [], {
    ...(measured === undefined ? {} : { measured }),
    ...(disk === undefined ? {} : { disk }),
  });
  showDetails(part('details'), operation, measured);
}

/**
 * @param {OperationEntry} operation
 * @returns {State}
 */
function stateOf({ kind, state, verdict, result }) {
  if (verdict !== undefined) return ['cross', 'damaged', 'bad'];
  if (kind === 'verify' && state === 'done') {
    const memory = /** @type {any} */ (result)?.memory;
    return ['check', memory === 'checked' ? 'sound' : 'structure sound', 'good'];
  }
  if (kind === 'diff' && state === 'done')
    return /** @type {any} */ (result)?.equal ? ['check', 'equal', 'good'] : ['check', 'different'];
  return STATES[state] ?? ['dot', state];
}

/** @param {string} phase */
function phaseInWords(phase) {
  for (const [pattern, words] of PHASES) if (pattern.test(phase)) return phase.replace(pattern, words);
  return phase;
}

/** @param {OperationEntry} operation */
function outcome(operation) {
  const { warnings, error, verdict, state, progress, startedAt, elapsedMs } = operation;
  const told = tellResult(operation);
  /** @type {HTMLElement[]} */
  const parts = [];
  if (isUnderWay(operation)) parts.push(soft(progress ? `${phaseInWords(progress.phase)} …` : 'beginning …'));
  else if (told !== undefined) parts.push(soft(`${told.sentence} · ${ago(startedAt)}`));
  else parts.push(soft(`${ago(startedAt)}, after ${duration(elapsedMs)}`));
  if (error !== undefined && state === 'failed') {
    parts.push(element('p', { class: 'said bad' }, inPageWords(error.message)));
  }
  if (verdict !== undefined)
    for (const line of verdict.split('\n')) parts.push(element('p', { class: 'said bad' }, line));
  for (const warning of warnings) {
    parts.push(
      element(
        'p',
        { class: 'said warning' },
        icon('warning'),
        element('span', {}, element('span', { class: 'unseen' }, 'Warning: '), inPageWords(warning)),
      ),
    );
  }
  return parts;
}

/**
 * @param {OperationEntry['progress']} progress
 * @param {number} elapsedMs
 * @param {OperationEntry['disk']} disk
 * @param {number | undefined} measured
 */
function figures(progress, elapsedMs, disk, measured) {
  /** @type {[string, string][]} */
  const pairs = [];
  if (progress !== undefined) {
    const { bytes, totalBytes, rate: now, remainingMs } = progress;
    if (totalBytes > 0) {
      pairs.push(['complete', percent(Math.min(1, bytes / totalBytes))]);
      pairs.push([`of ${size(totalBytes)}`, size(bytes)]);
    } else if (bytes > 0) pairs.push(['so far', size(bytes)]);
    if (now > 0) {
      const share = measured === undefined ? '' : `, ${percent(now / measured)} of the disk`;
      pairs.push([
        `${disk === 'read' ? 'reading' : disk === 'write' ? 'writing' : 'now'}${share}`,
        rate(now),
      ]);
    }
    if (remainingMs !== undefined && remainingMs > 0) pairs.push(['left', duration(remainingMs)]);
  }
  pairs.push(['so far', duration(elapsedMs)]);
  return pairs.map(([name, text]) => element('div', {}, element('dt', {}, name), element('dd', {}, text)));
}

/**
 * A line for each channel: how much it moved and how fast, as a bar against the fastest of them.
 *
 * @param {OperationEntry['progress']} progress
 * @param {number | undefined} measured
 */
function channelBars(progress, measured) {
  const channels = progress?.channels ?? [];
  const share = measured === undefined ? 0 : measured / (channels.length || 1);
  const most = Math.max(share, ...channels.map((channel) => channel.rate), 1);
  return channels.flatMap(({ id, bytes, rate: now }) => {
    const name = `Channel ${id}`;
    return [
      element('span', {}, name),
      element('meter', { min: 0, max: most, value: now, 'aria-label': `${name}: ${rate(now)}` }),
      element('span', { class: 'number' }, rate(now)),
      element('span', { class: 'number' }, size(bytes)),
    ];
  });
}

/**
 * What is known of one that has ended: made when somebody looks.
 *
 * @param {Element} place
 * @param {OperationEntry} operation
 * @param {number | undefined} measured
 */
function showDetails(place, operation, measured) {
  const told = isUnderWay(operation) ? undefined : tellResult(operation);
  if (told === undefined || place.childElementCount > 0) return;
  const { kind, rates, disk, file, other } = operation;
  const node = element('details', {}, element('summary', {}, 'Details'));
  node.addEventListener('toggle', () => {
    if (!node.open || node.children.length > 1) return;
    const facts = told.facts.flatMap(([label, text, reason]) => [
      element('dt', {}, label),
      element('dd', {}, text, reason ? element('span', { class: 'soft' }, reason) : undefined),
    ]);
    node.append(element('dl', { class: 'facts' }, ...facts));
    if (kind === 'diff' && file !== undefined && other !== undefined) node.append(reportLink(file, other));
    if (rates.length < 2) return;
    const chart = createRateChart();
    updateRateChart(chart, rates, {
      ...(measured === undefined ? {} : { measured }),
      ...(disk === undefined ? {} : { disk }),
    });
    node.append(element('div', { class: 'measures' }, chart));
  });
  place.append(node);
}

/**
 * @param {string} before
 * @param {string} after
 */
function reportLink(before, after) {
  const address = new URL('../comparison', addressOf(''));
  address.search = new URLSearchParams({ before, after }).toString();
  return element(
    'p',
    { class: 'said' },
    element(
      'a',
      { href: address.href, target: '_blank', rel: 'noopener' },
      'Every difference, with a map of the memory (another page)',
    ),
  );
}
