/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/** The script of a report's page. It runs in the browser, on its own: it may import types only. */
import type { ReportData, ReportRegion, TreeNode } from './report-data.js';

/** Pixels of a square of the map, at least and at most, and of the line above each region. */
const MIN_SQUARE = 10;
const MAX_SQUARE = 18;
const HEADING = 24;
const ADDRESS_WIDTH = 112;
/** Most lines that a search of the tree shows. */
const MAX_FOUND = 400;

const data = JSON.parse(document.getElementById('report')?.textContent ?? '') as ReportData;

type Attributes = Record<string, string>;

/** An element; strings become text, never markup. */
function element(tag: string, attributes: Attributes = {}, ...children: (Node | string)[]): HTMLElement {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function size(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${Number(value.toFixed(2))} ${units[unit]}`;
}

async function unpack(packed: string): Promise<Uint8Array> {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

interface Region extends Omit<ReportRegion, 'cells' | 'changed'> {
  cells: Uint8Array;
  changed: Uint8Array | undefined;
}

/** The map: regions below each other, each in rows of squares that stand for `step` cells. */
class MemoryMapView {
  readonly #canvas = element('canvas', {
    tabindex: '0',
    role: 'img',
    'aria-label': 'Map of guest memory. Arrow keys move, plus and minus zoom, Home and End go to the ends.',
    'aria-describedby': 'where',
  }) as HTMLCanvasElement;
  readonly #where = element('p', { id: 'where', class: 'where', role: 'status', 'aria-live': 'polite' });
  readonly #scale = element('span', { class: 'hint' });
  #tiles: HTMLCanvasElement[] = [];
  #square = MIN_SQUARE;
  #step = 1;
  #maxStep = 1;
  #columns = 64;
  /** Pixels that the map is scrolled down. */
  #top = 0;
  /** The chosen square. */
  #region = 0;
  #cell = 0;

  constructor(private readonly regions: readonly Region[]) {
    this.#canvas.addEventListener('keydown', (event) => this.#key(event));
    this.#canvas.addEventListener('pointerdown', (event) => this.#point(event));
    this.#canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.#resize()).observe(this.#canvas);
  }

  nodes(): HTMLElement[] {
    const button = (label: string, says: string, action: () => void) => {
      const created = element('button', { type: 'button', 'aria-label': says }, label);
      created.addEventListener('click', action);
      return created;
    };
    const address = element('input', {
      id: 'address',
      placeholder: '0x100000',
      spellcheck: 'false',
    }) as HTMLInputElement;
    const go = (): void => this.goTo(Number(address.value.trim()));
    address.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') go();
    });
    return [
      element(
        'div',
        { class: 'bar' },
        button('+', 'zoom in', () => this.#zoom(0.5)),
        button('−', 'zoom out', () => this.#zoom(2)),
        button('all', 'show all memory', () => this.#zoom(Number.POSITIVE_INFINITY)),
        element('label', { for: 'address' }, 'go to guest address'),
        address,
        button('go', 'go to the guest address', go),
        this.#scale,
      ),
      element('div', { class: 'map' }, this.#canvas),
      this.#where,
    ];
  }

  /** Chooses the square that a guest address lies in. */
  goTo(address: number): void {
    const found = this.regions.findIndex(
      ({ start, length }) => start !== null && address >= start && address < start + length,
    );
    const { start } = this.regions[found] ?? {};
    if (found < 0 || typeof start !== 'number') {
      this.#where.textContent = 'There is no memory that is known to lie at this address.';
      return;
    }
    this.#choose(found, Math.floor((address - start) / data.map.cellBytes));
  }

  #choose(region: number, cell: number): void {
    const { cells } = this.regions[region] as Region;
    this.#region = region;
    this.#cell = Math.max(0, Math.min(cells.length - 1, cell));
    const square = Math.floor(this.#cell / this.#step);
    const y = this.#regionTop(region) + HEADING + Math.floor(square / this.#columns) * this.#square;
    const { clientHeight } = this.#canvas;
    if (y - HEADING < this.#top) this.#top = Math.max(0, y - HEADING);
    if (y + this.#square > this.#top + clientHeight) this.#top = y + this.#square - clientHeight;
    this.#describe();
    this.#draw();
  }

  #describe(): void {
    const region = this.regions[this.#region] as Region;
    const first = Math.floor(this.#cell / this.#step) * this.#step;
    const end = Math.min(first + this.#step, region.cells.length);
    const { cellBytes } = data.map;
    const offset = first * cellBytes;
    const length = Math.min(end * cellBytes, region.length) - offset;
    const counts = data.kinds.map(() => 0);
    for (let cell = first; cell < end; cell++) {
      const kind = region.cells[cell] ?? 0;
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
    const kinds = data.kinds.flatMap(({ says }, kind) => {
      const share = Math.round(((counts[kind] ?? 0) / (end - first)) * 100);
      return counts[kind] ? [end - first === 1 ? says : `${says} ${share} %`] : [];
    });
    const changed = region.changed?.subarray(first, end).some((cell) => cell !== 0);
    const from = (region.start ?? region.blockOffset) + offset;
    const place = region.start === null ? `offset in ${region.idstr}` : `guest address`;
    this.#where.textContent = [
      `${place} ${hex(from)} to ${hex(from + length - 1)} (${size(length)})`,
      `block ${region.idstr} at ${hex(region.blockOffset + offset)}`,
      kinds.join(', '),
      ...(changed === undefined ? [] : [changed ? 'differs' : 'equal']),
    ].join('; ');
  }

  #regionTop(index: number): number {
    let top = 0;
    for (const region of this.regions.slice(0, index)) top += this.#regionHeight(region);
    return top;
  }

  #regionHeight({ cells }: Region): number {
    return HEADING + Math.ceil(Math.ceil(cells.length / this.#step) / this.#columns) * this.#square;
  }

  #resize(): void {
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = clientWidth * devicePixelRatio;
    this.#canvas.height = clientHeight * devicePixelRatio;
    const fitting = Math.max(8, Math.floor((clientWidth - ADDRESS_WIDTH) / MIN_SQUARE));
    this.#columns = 2 ** Math.floor(Math.log2(fitting));
    const filling = Math.floor((clientWidth - ADDRESS_WIDTH) / this.#columns);
    this.#square = Math.max(MIN_SQUARE, Math.min(MAX_SQUARE, filling));
    this.#tiles = data.kinds.flatMap((_, kind) => [
      drawTile(kind, false, this.#square),
      drawTile(kind, true, this.#square),
    ]);
    const before = this.#step;
    this.#maxStep = 1;
    this.#step = 1;
    while (this.#height() > clientHeight && this.#maxStep < 2 ** 40) {
      this.#maxStep *= 2;
      this.#step = this.#maxStep;
      if (this.regions.every(({ cells }) => cells.length <= this.#step)) break;
    }
    if (before > 1 && before < this.#maxStep) this.#step = before;
    this.#choose(this.#region, this.#cell);
  }

  #height(): number {
    return this.#regionTop(this.regions.length);
  }

  #zoom(factor: number): void {
    this.#step = Math.max(1, Math.min(this.#maxStep, this.#step * factor));
    this.#top = Math.max(0, Math.min(this.#top, this.#height() - this.#canvas.clientHeight));
    this.#choose(this.#region, this.#cell);
  }

  #key(event: KeyboardEvent): void {
    const row = this.#columns * this.#step;
    const page = row * Math.max(1, Math.floor(this.#canvas.clientHeight / this.#square) - 2);
    const moves: Record<string, number> = {
      ArrowLeft: -this.#step,
      ArrowRight: this.#step,
      ArrowUp: -row,
      ArrowDown: row,
      PageUp: -page,
      PageDown: page,
    };
    const move = moves[event.key];
    const last = this.regions.length - 1;
    if (move !== undefined) this.#move(move);
    else if (event.key === '+' || event.key === '=') this.#zoom(0.5);
    else if (event.key === '-') this.#zoom(2);
    else if (event.key === 'Home') this.#choose(0, 0);
    else if (event.key === 'End') this.#choose(last, Number.MAX_SAFE_INTEGER);
    else return;
    event.preventDefault();
  }

  /** Moves the choice; over the end of a region into the next. */
  #move(by: number): void {
    const target = this.#cell + by;
    const { cells } = this.regions[this.#region] as Region;
    const next = this.regions[this.#region + 1];
    const before = this.regions[this.#region - 1];
    if (target >= cells.length && next !== undefined) this.#choose(this.#region + 1, 0);
    else if (target < 0 && before !== undefined) this.#choose(this.#region - 1, before.cells.length - 1);
    else this.#choose(this.#region, target);
  }

  #point(event: PointerEvent): void {
    const y = event.offsetY + this.#top;
    const column = Math.floor((event.offsetX - ADDRESS_WIDTH) / this.#square);
    let top = 0;
    for (const [index, region] of this.regions.entries()) {
      const height = this.#regionHeight(region);
      if (y < top + height) {
        const row = Math.floor((y - top - HEADING) / this.#square);
        if (row >= 0 && column >= 0 && column < this.#columns) {
          this.#choose(index, (row * this.#columns + column) * this.#step);
        }
        return;
      }
      top += height;
    }
  }

  #wheel(event: WheelEvent): void {
    const room = Math.max(0, this.#height() - this.#canvas.clientHeight);
    if (event.ctrlKey) this.#zoom(event.deltaY < 0 ? 0.5 : 2);
    else if (room === 0) return;
    else {
      this.#top = Math.max(0, Math.min(room, this.#top + event.deltaY));
      this.#draw();
    }
    event.preventDefault();
  }

  #draw(): void {
    const context = this.#canvas.getContext('2d') as CanvasRenderingContext2D;
    const { clientWidth, clientHeight } = this.#canvas;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, clientWidth, clientHeight);
    context.textBaseline = 'middle';
    let top = -this.#top;
    for (const [index, region] of this.regions.entries()) {
      const height = this.#regionHeight(region);
      if (top + height > 0 && top < clientHeight) this.#drawRegion(context, region, index, top);
      top += height;
    }
    const step = this.#step * data.map.cellBytes;
    const frames = this.regions.some(({ changed }) => changed !== undefined)
      ? ', a white frame: differs'
      : '';
    this.#scale.textContent = `a square is ${size(step)}, a row ${size(step * this.#columns)}${frames}`;
  }

  #drawRegion(context: CanvasRenderingContext2D, region: Region, index: number, top: number): void {
    const { clientHeight } = this.#canvas;
    const { cells, start, idstr, length, blockOffset } = region;
    context.fillStyle = '#fff';
    context.font = '600 13px system-ui, sans-serif';
    const place = start === null ? 'place in the guest not known' : `from ${hex(start)}`;
    context.fillText(`${idstr}, ${size(length)}, ${place}`, 8, top + HEADING / 2 + 2);
    context.font = '10px ui-monospace, monospace';
    const squares = Math.ceil(cells.length / this.#step);
    const rows = Math.ceil(squares / this.#columns);
    const firstRow = Math.max(0, Math.floor((-top - HEADING) / this.#square));
    for (let row = firstRow; row < rows; row++) {
      const y = top + HEADING + row * this.#square;
      if (y > clientHeight) break;
      const rowCell = row * this.#columns * this.#step;
      context.fillStyle = '#c8ccd4';
      if (row % 2 === 0) {
        context.fillText(hex((start ?? blockOffset) + rowCell * data.map.cellBytes), 8, y + this.#square / 2);
      }
      for (let column = 0; column < this.#columns; column++) {
        const first = rowCell + column * this.#step;
        if (first >= cells.length) break;
        const tile = this.#tiles[this.#tileOf(region, first)];
        if (tile)
          context.drawImage(tile, ADDRESS_WIDTH + column * this.#square, y, this.#square, this.#square);
      }
    }
    if (index === this.#region) {
      const square = Math.floor(this.#cell / this.#step);
      const x = ADDRESS_WIDTH + (square % this.#columns) * this.#square;
      const y = top + HEADING + Math.floor(square / this.#columns) * this.#square;
      context.strokeStyle = '#fff';
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, this.#square + 2, this.#square + 2);
    }
  }

  /** The most frequent kind but zero, and whether anything differs. */
  #tileOf({ cells, changed }: Region, first: number): number {
    const end = Math.min(first + this.#step, cells.length);
    const counts = [0, 0, 0, 0, 0, 0];
    let differs = 0;
    for (let cell = first; cell < end; cell++) {
      const kind = cells[cell] as number;
      counts[kind] = (counts[kind] as number) + 1;
      differs |= changed?.[cell] ?? 0;
    }
    let kind = 0;
    let most = 0;
    for (let candidate = 1; candidate < counts.length; candidate++) {
      const count = counts[candidate] as number;
      if (count > most) [most, kind] = [count, candidate];
    }
    return kind * 2 + differs;
  }
}

/** A square of a kind: its colour, and a sign of its own for those who do not see the colour. */
function drawTile(kind: number, differs: boolean, square: number): HTMLCanvasElement {
  const scale = Math.max(1, Math.ceil(devicePixelRatio));
  const tile = element('canvas') as HTMLCanvasElement;
  tile.width = square * scale;
  tile.height = square * scale;
  const context = tile.getContext('2d') as CanvasRenderingContext2D;
  context.scale(scale, scale);
  const { glyph = '', colour = '#000' } = data.kinds[kind] ?? {};
  context.fillStyle = kind === 0 ? '#22262e' : colour;
  context.fillRect(0.5, 0.5, square - 1, square - 1);
  context.fillStyle = kind === 0 ? '#667' : '#000';
  context.font = `${Math.round(square * 0.75)}px ui-monospace, monospace`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.fillText(glyph, square / 2, square / 2 + 0.5);
  if (differs) {
    context.strokeStyle = '#fff';
    context.lineWidth = 2;
    context.strokeRect(1.5, 1.5, square - 3, square - 3);
  }
  return tile;
}

/** The tree; what is below a line is made when it is opened. */
class TreeView {
  readonly #list = element('ul', { class: 'tree' });
  readonly #count = element('span', { class: 'hint', role: 'status' });

  nodes(): HTMLElement[] {
    const input = element('input', {
      id: 'search',
      type: 'search',
      placeholder: 'name or value',
      spellcheck: 'false',
    }) as HTMLInputElement;
    input.addEventListener('input', () => this.#search(input.value.trim().toLowerCase()));
    this.#search('');
    return [
      element('div', { class: 'bar' }, element('label', { for: 'search' }, 'Search'), input, this.#count),
      this.#list,
    ];
  }

  #search(query: string): void {
    if (query === '') {
      this.#count.textContent = `${data.tree.length} devices`;
      this.#list.replaceChildren(...data.tree.map((node) => treeItem(node)));
      return;
    }
    const found: [path: string, value: string][] = [];
    let total = 0;
    const visit = ([name, value, children]: TreeNode, above: string): void => {
      const path = above === '' ? name : `${above} › ${name}`;
      if (`${path} ${value}`.toLowerCase().includes(query)) {
        total++;
        if (found.length < MAX_FOUND) found.push([path, value]);
      }
      for (const child of children ?? []) visit(child, path);
    };
    for (const node of data.tree) visit(node, '');
    const shown = total > found.length ? `, the first ${found.length} shown` : '';
    this.#count.textContent = `${total} found${shown}`;
    this.#list.replaceChildren(
      ...found.map(([path, value]) =>
        element(
          'li',
          { class: 'leaf' },
          ...marked(path, query),
          ': ',
          element('span', { class: 'value' }, ...marked(value, query)),
        ),
      ),
    );
  }
}

function treeItem([name, value, children]: TreeNode): HTMLElement {
  const text = [name, element('span', { class: 'value' }, value === '' ? '' : `: ${value}`)];
  if (children === undefined || children.length === 0) return element('li', { class: 'leaf' }, ...text);
  const details = element('details', {}, element('summary', {}, ...text));
  details.addEventListener(
    'toggle',
    () => details.append(element('ul', {}, ...children.map((child) => treeItem(child)))),
    { once: true },
  );
  return element('li', {}, details);
}

function marked(text: string, query: string): (Node | string)[] {
  const at = text.toLowerCase().indexOf(query);
  if (at < 0) return [text];
  const end = at + query.length;
  return [text.slice(0, at), element('mark', {}, text.slice(at, end)), text.slice(end)];
}

function table(head: readonly string[], rows: readonly (readonly (string | Node)[])[]): HTMLElement {
  return element(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': head.join(', ') },
    element(
      'table',
      {},
      element('thead', {}, element('tr', {}, ...head.map((cell) => element('th', { scope: 'col' }, cell)))),
      element(
        'tbody',
        {},
        ...rows.map((row) => element('tr', {}, ...row.map((cell) => element('td', {}, cell)))),
      ),
    ),
  );
}

function kindName({ says, glyph, colour }: ReportData['kinds'][number]): Node {
  const key = element('span', { class: 'key', 'aria-hidden': 'true' }, glyph);
  key.style.background = colour;
  if (says === 'zero') key.style.color = '#fff';
  const name = element('span', {}, key, says);
  return name;
}

async function show(): Promise<void> {
  const regions = await Promise.all(
    data.map.regions.map(
      async ({ cells, changed, ...region }): Promise<Region> => ({
        ...region,
        cells: await unpack(cells),
        changed: changed === undefined ? undefined : await unpack(changed),
      }),
    ),
  );
  const facts = data.facts.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]);
  const problems =
    data.problems.length === 0
      ? []
      : [
          element(
            'section',
            { class: 'problems', 'aria-label': 'Problems' },
            element('strong', {}, 'What is wrong with the file'),
            element('ul', {}, ...data.problems.map((problem) => element('li', {}, problem))),
          ),
        ];
  const map = regions.some(({ cells }) => cells.length > 0)
    ? new MemoryMapView(regions.filter(({ cells }) => cells.length > 0)).nodes()
    : [element('p', {}, 'The file has no memory that can be shown.')];
  document.body.prepend(
    element(
      'main',
      {},
      element('h1', {}, data.title),
      element('dl', {}, ...facts),
      ...problems,
      element('h2', {}, 'Memory'),
      ...map,
      table(
        ['Kind', 'Size', 'Compresses'],
        data.kinds.map((kind) => [kindName(kind), kind.size, kind.compresses]),
      ),
      element('h2', {}, 'Blocks'),
      table(data.blocks.head, data.blocks.rows),
      element('h2', {}, data.treeTitle),
      ...new TreeView().nodes(),
    ),
  );
  document.body.dataset.ready = 'true';
}

await show();
