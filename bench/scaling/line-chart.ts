/** A line chart as SVG: readable without colour vision, by dashes, marks and names beside the lines, and in print. */

export interface Point {
  x: number;
  y: number;
}

export interface Series {
  name: string;
  points: readonly Point[];
}

export interface Chart {
  title: string;
  xLabel: string;
  yLabel: string;
  /** Equal steps for equal factors. */
  logX?: boolean;
  series: readonly Series[];
}

const WIDTH = 720;
const HEIGHT = 400;
const FRAME = { left: 70, right: 170, top: 48, bottom: 56 };
/** Told apart by people with any colour vision (Okabe and Ito). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9'];
const DASHES = ['', '8 4', '2 4', '10 4 2 4', '4 2'];

export function lineChart({ title, xLabel, yLabel, logX = false, series }: Chart): string {
  const xs = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const top = niceCeiling(Math.max(...series.flatMap(({ points }) => points.map(({ y }) => y))));
  const place = (value: number) => (logX ? Math.log2(value) : value);
  const [from, to] = [place(xs[0] ?? 0), place(xs.at(-1) ?? 1)];
  const x = (value: number) =>
    FRAME.left + ((place(value) - from) / (to - from || 1)) * (WIDTH - FRAME.left - FRAME.right);
  const y = (value: number) => HEIGHT - FRAME.bottom - (value / top) * (HEIGHT - FRAME.top - FRAME.bottom);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${quoted(title)}" font-family="sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(title, FRAME.left, 26, 'font-size="16" font-weight="bold"'),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
      line(FRAME.left, y(top * share), WIDTH - FRAME.right, y(top * share), '#ddd'),
      text(short(top * share), FRAME.left - 8, y(top * share) + 4, 'text-anchor="end"'),
    ]),
    ...xs.map((value) => text(short(value), x(value), HEIGHT - FRAME.bottom + 20, 'text-anchor="middle"')),
    text(xLabel, (FRAME.left + WIDTH - FRAME.right) / 2, HEIGHT - 12, 'text-anchor="middle"'),
    `<text transform="translate(18 ${(FRAME.top + HEIGHT - FRAME.bottom) / 2}) rotate(-90)" text-anchor="middle">${quoted(yLabel)}</text>`,
    ...series.flatMap((one, index) => drawn(one, index, x, y)),
    ...names(series, y).map(({ name, at, index }) =>
      text(name, WIDTH - FRAME.right + 12, at + 4, `fill="${COLOURS[index % COLOURS.length]}"`),
    ),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

function drawn(
  { points }: Series,
  index: number,
  x: (value: number) => number,
  y: (value: number) => number,
): string[] {
  const colour = COLOURS[index % COLOURS.length];
  const dash = DASHES[index % DASHES.length];
  const path = points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(' ');
  return [
    `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash === '' ? '' : ` stroke-dasharray="${dash}"`}/>`,
    ...points.map(
      (point) =>
        `<circle cx="${x(point.x).toFixed(1)}" cy="${y(point.y).toFixed(1)}" r="3.5" fill="${index % 2 === 0 ? colour : '#fff'}" stroke="${colour}" stroke-width="2"/>`,
    ),
  ];
}

/** Names at the ends of the lines, moved apart where they would lie on each other. */
function names(
  series: readonly Series[],
  y: (value: number) => number,
): { name: string; at: number; index: number }[] {
  const placed = series
    .map(({ name, points }, index) => ({ name, index, at: y(points.at(-1)?.y ?? 0) }))
    .sort((a, b) => a.at - b.at);
  for (const [rank, one] of placed.entries()) {
    const above = placed[rank - 1];
    if (above !== undefined) one.at = Math.max(one.at, above.at + 16);
  }
  return placed;
}

const line = (x1: number, y1: number, x2: number, y2: number, colour: string): string =>
  `<line x1="${x1}" y1="${y1.toFixed(1)}" x2="${x2}" y2="${y2.toFixed(1)}" stroke="${colour}"/>`;

const text = (words: string, x: number, y: number, attributes: string): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${quoted(words)}</text>`;

const quoted = (words: string): string =>
  words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

const short = (value: number): string => String(Number(value.toPrecision(3)));

/** 1, 2, 2.5, 5 or 10 times a power of ten. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
}
