/** The rate of an operation over time, with the disk's measured rate as a dashed line. */
import { setAttribute, svgElement } from './elements.js';
import { rate } from './text.js';

const WIDTH = 600;
const HEIGHT = 100;

export function createRateChart() {
  const line = svgElement('polyline', { points: '' });
  const disk = svgElement('line', { x1: 0, x2: WIDTH });
  return svgElement(
    'svg',
    { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' },
    disk,
    line,
  );
}

/**
 * @param {Element} chart
 * @param {readonly (readonly [number, number])[]} rates
 * @param {number | undefined} diskRate
 */
export function updateRateChart(chart, rates, diskRate) {
  chart.toggleAttribute('hidden', rates.length < 2);
  const [disk, line] = chart.children;
  if (rates.length < 2 || disk === undefined || line === undefined) return;
  const end = rates.at(-1)?.[0] ?? 1;
  const begin = rates[0]?.[0] ?? 0;
  const peak = Math.max(...rates.map(([, value]) => value));
  const top = 1.08 * Math.max(peak, diskRate ?? 0, 1);
  const y = (/** @type {number} */ value) => (HEIGHT * (1 - value / top)).toFixed(1);
  const points = rates.map(
    ([at, value]) => `${((WIDTH * (at - begin)) / (end - begin)).toFixed(1)},${y(value)}`,
  );
  setAttribute(line, 'points', points.join(' '));
  disk.toggleAttribute('hidden', diskRate === undefined);
  if (diskRate !== undefined) for (const end of ['y1', 'y2']) setAttribute(disk, end, y(diskRate));
  const beside = diskRate === undefined ? '' : `; the dashed line is the disk, ${rate(diskRate)}`;
  setAttribute(
    chart,
    'aria-label',
    `Rate over time: now ${rate(rates.at(-1)?.[1] ?? 0)}, highest ${rate(peak)}${beside}`,
  );
}
