/** The rate of an operation over time, with a scale, and the disk's measured rate as a dashed line. */
import { element, fill, setAttribute, svgElement } from './elements.js';
import { duration, rate } from './text.js';

const WIDTH = 600;
const HEIGHT = 100;

export function createRateChart() {
  const line = svgElement('polyline', { points: '' });
  const area = svgElement('polygon', { points: '' });
  const disk = svgElement('line', { x1: 0, x2: WIDTH, class: 'disk' });
  const middle = svgElement('line', { x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 });
  const top = svgElement('line', { x1: 0, x2: WIDTH, y1: 0, y2: 0 });
  return element(
    'figure',
    { class: 'chart' },
    element('div', { class: 'rates', 'aria-hidden': 'true' }),
    svgElement(
      'svg',
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' },
      ...[top, middle, area, disk, line],
    ),
    element('div', { class: 'times', 'aria-hidden': 'true' }),
    element('figcaption', {}),
  );
}

/**
 * @param {Element} chart
 * @param {readonly (readonly [at: number, rate: number])[]} rates ms since the start, bytes a second
 * @param {{ measured?: number, disk?: 'read' | 'write' }} [beside] what the disk was measured to do, bytes a second
 */
export function updateRateChart(chart, rates, { measured, disk } = {}) {
  chart.toggleAttribute('hidden', rates.length < 2);
  const [scale, picture, times, caption] = chart.children;
  if (rates.length < 2 || !scale || !picture || !times || !caption) return;
  const begin = rates[0]?.[0] ?? 0;
  const end = rates.at(-1)?.[0] ?? 1;
  const peak = Math.max(...rates.map(([, value]) => value));
  const top = roundUp(Math.max(peak, measured ?? 0, 1));
  const y = (/** @type {number} */ value) => (HEIGHT * (1 - value / top)).toFixed(1);
  const points = rates.map(
    ([at, value]) => `${((WIDTH * (at - begin)) / (end - begin)).toFixed(1)},${y(value)}`,
  );
  setAttribute(/** @type {Element} */ (picture.querySelector('polyline')), 'points', points.join(' '));
  setAttribute(
    /** @type {Element} */ (picture.querySelector('polygon')),
    'points',
    `0,${HEIGHT} ${points.join(' ')} ${WIDTH},${HEIGHT}`,
  );
  const dashed = /** @type {Element} */ (picture.querySelector('.disk'));
  dashed.toggleAttribute('hidden', measured === undefined);
  if (measured !== undefined) for (const side of ['y1', 'y2']) setAttribute(dashed, side, y(measured));
  fill(scale, ...[top, top / 2, 0].map((value) => element('span', {}, rate(value))));
  fill(times, ...[begin, (begin + end) / 2, end].map((at) => element('span', {}, duration(at))));
  const verb = disk === 'read' ? 'read' : 'written';
  fill(
    caption,
    element('span', {}, disk === undefined ? 'rate' : `${verb} by this operation`),
    measured === undefined
      ? undefined
      : element('span', { class: 'disk' }, `the disk as measured, ${rate(measured)}`),
  );
  setAttribute(
    picture,
    'aria-label',
    `Rate over time: now ${rate(rates.at(-1)?.[1] ?? 0)}, highest ${rate(peak)}${measured === undefined ? '' : `; the dashed line is the disk, ${rate(measured)}`}`,
  );
}

/**
 * The next value that reads well on a scale: 1, 2, 4 or 8 of a binary unit times a power of ten.
 *
 * @param {number} value
 */
function roundUp(value) {
  const unit = 1024 ** Math.floor(Math.log2(Math.max(1, value)) / 10);
  const power = 10 ** Math.floor(Math.log10(value / unit));
  const step = [1, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power * unit >= value) ?? 10;
  return step * power * unit;
}
