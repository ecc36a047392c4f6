/**
 * The picture of a file's memory. Not by colour: what has contents stands out, zero pages are empty, and those that take
 * room all the same are hatched; the slider below tells each place in words. The style sheet has the colours of each scheme.
 */
import { element, uniqueId } from './elements.js';
import { hex, percent, plural, size } from './text.js';

/** @import { BlockMap, MemoryMap } from '../memory-map.js' */

const COLUMNS = 128;
/** Pixels a cell, before the browser scales the picture. */
const CELL = 6;

/**
 * @param {MemoryMap} map
 * @returns {HTMLElement[]}
 */
export function memoryMapView(map) {
  const biggest = [...map.blocks].sort((one, other) => other.usedLength - one.usedLength);
  return [legend(), ...biggest.map((block) => blockFigure(block, map.pageSize))];
}

/**
 * @param {BlockMap} block
 * @param {number} pageSize
 */
function blockFigure(block, pageSize) {
  const { idstr, usedLength, presentPages, unusedPages } = block;
  const title = uniqueId('block');
  const words = [
    size(usedLength),
    `${size(presentPages * pageSize)} with contents (${percent(presentPages / (usedLength / pageSize || 1))})`,
    ...(unusedPages === 0 ? [] : [`${size(unusedPages * pageSize)} zero yet on disk`]),
  ].join(', ');
  const caption = element('figcaption', { id: title }, element('strong', {}, idstr), ` ${words}`);
  if (block.present.length < 2) return element('figure', { class: 'block' }, caption);
  const canvas = element('canvas', { role: 'img', 'aria-label': `Map of ${idstr}: ${words}` });
  const slider = element('input', {
    type: 'range',
    min: 0,
    max: block.present.length - 1,
    value: 0,
    'aria-label': `Place in ${idstr}`,
  });
  const output = element('output', {});
  const tell = () => {
    const text = describeCell(block, slider.valueAsNumber);
    output.textContent = text;
    slider.setAttribute('aria-valuetext', text);
    draw(canvas, block, slider.valueAsNumber);
  };
  slider.addEventListener('input', tell);
  canvas.addEventListener('pointermove', (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * COLUMNS);
    const row = Math.floor(((event.clientY - top) / height) * rowsOf(block));
    slider.value = String(row * COLUMNS + column);
    tell();
  });
  paintAlways(canvas, tell);
  return element('figure', { class: 'block' }, caption, canvas, slider, output);
}

/**
 * @param {BlockMap} block
 * @param {number} cell
 */
function describeCell({ cellBytes, usedLength, present, unused, pagesOffset }, cell) {
  const start = cell * cellBytes;
  const end = Math.min(usedLength, start + cellBytes) - 1;
  const parts = [
    `${hex(start)} to ${hex(end)}`,
    `at ${hex(pagesOffset + start)} in the file`,
    `${present[cell] ?? 0} % with contents`,
  ];
  if ((unused[cell] ?? 0) > 0) parts.push(`${unused[cell]} % zero yet on disk`);
  return parts.join(', ');
}

/** @param {BlockMap} block */
function rowsOf({ present }) {
  return Math.ceil(present.length / COLUMNS);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {BlockMap} block
 * @param {number} [chosen]
 */
function draw(canvas, block, chosen) {
  canvas.width = COLUMNS * CELL;
  canvas.height = rowsOf(block) * CELL;
  const context = canvas.getContext('2d');
  if (context === null) return;
  const at = (/** @type {number} */ cell) =>
    /** @type {const} */ ([(cell % COLUMNS) * CELL, Math.floor(cell / COLUMNS) * CELL]);
  context.fillStyle = colour('outside');
  context.fillRect(0, 0, canvas.width, canvas.height);
  block.present.forEach((share, cell) => {
    drawCell(context, ...at(cell), CELL, share, block.unused[cell] ?? 0);
  });
  if (chosen === undefined) return;
  const [x, y] = at(chosen);
  context.lineWidth = 3;
  context.strokeStyle = colour('empty');
  context.strokeRect(x - 2.5, y - 2.5, CELL + 5, CELL + 5);
  context.lineWidth = 1.5;
  context.strokeStyle = colour('hatch');
  context.strokeRect(x - 1, y - 1, CELL + 2, CELL + 2);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} side
 * @param {number} present
 * @param {number} unused
 */
function drawCell(context, x, y, side, present, unused) {
  context.fillStyle = colour('empty');
  context.fillRect(x, y, side, side);
  if (present > 0) {
    // The faintest can still be distinguished from an empty one.
    context.fillStyle = colour('faint');
    context.fillRect(x, y, side, side);
    context.globalAlpha = present / 100;
    context.fillStyle = colour('full');
    context.fillRect(x, y, side, side);
    context.globalAlpha = 1;
  }
  if (unused === 0) return;
  context.fillStyle = present > 50 ? colour('empty') : colour('hatch');
  for (let step = 0; step < side; step += 2) context.fillRect(x + step, y + side - 1 - step, 1.5, 1.5);
}

const dark = window.matchMedia('(prefers-color-scheme: dark)');
/** @type {Map<string, string>} */
const colours = new Map();
dark.addEventListener('change', () => colours.clear());

/**
 * A colour of the map in the scheme of now.
 *
 * @param {string} name
 */
function colour(name) {
  const known = colours.get(name);
  if (known !== undefined) return known;
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--map-${name}`);
  colours.set(name, value);
  return value;
}

/**
 * Draws now, and again whenever the colours of the page change, as long as the picture is there.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {() => void} paint
 */
function paintAlways(canvas, paint) {
  paint();
  const again = () => {
    if (canvas.isConnected) paint();
    else dark.removeEventListener('change', again);
  };
  dark.addEventListener('change', again);
}

function legend() {
  const kinds = /** @type {const} */ ([
    ['zero, not stored', 0, 0],
    ['a few pages with contents', 10, 0],
    ['all pages with contents', 100, 0],
    ['zero, yet takes room on the disk', 0, 100],
  ]);
  return element(
    'ul',
    { class: 'legend' },
    ...kinds.map(([words, present, unused]) => {
      const canvas = element('canvas', { width: 24, height: 18, 'aria-hidden': 'true' });
      const context = canvas.getContext('2d');
      paintAlways(canvas, () => {
        for (let x = 0; context && x < 24; x += CELL) {
          for (let y = 0; y < 18; y += CELL) drawCell(context, x, y, CELL, present, unused);
        }
      });
      return element('li', {}, canvas, words);
    }),
  );
}

/** @param {MemoryMap} map */
export function memoryMapSummary({ blocks, pageSize }) {
  const stored = blocks.reduce((sum, { presentPages }) => sum + presentPages, 0);
  return `${plural(stored, 'page')} of ${size(pageSize)} with contents in ${plural(blocks.length, 'block')}.`;
}
