import type { Comparison } from '../../analysis/compare.js';
import type { DeviceComparison, FieldChange, LeafValue } from '../../analysis/compare-devices.js';
import type { BlockComparison, DifferentRange } from '../../analysis/compare-memory.js';
import { formatValue } from '../../analysis/format-value.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { diff as compare } from '../../snapshot/inspect/diff.js';
import { writeComparisonReport } from '../../snapshot/inspect/report.js';
import { openSaved } from '../../snapshot/store/open-saved.js';
import { visibleLine } from '../../visible.js';
import { parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { plural, properties, table } from '../format.js';

/** Ranges and fields printed for one block or device; `--json` has them all. */
const MAX_SHOWN = 20;

export const diff: CommandOf<'diff'> = {
  name: 'diff',
  summary: 'what differs between two saved VMs: pages and device fields',
  declare(command) {
    command
      .argument('<before>', 'a saved VM of any form, or PLACE/NAME in a store')
      .argument('<after>', 'another one, of any form')
      .option('--all', 'print every range and field, not only the first of each')
      .option('--read-all', 'read all pages, also those that the checksums in both files call equal')
      .option('--exit-code', 'exit with 1 when they differ')
      .option('--html <path>', 'write a page with a map of what differs')
      .option('--force', 'with --html: replace an existing file')
      .option('--offset-before <bytes>', 'where the stream of the first file starts', parseOffset)
      .option('--offset-after <bytes>', 'where the stream of the second file starts', parseOffset)
      .addHelpText(
        'after',
        `
Examples:
  mapram diff yesterday.mapram today.mapram
  mapram diff --exit-code vm.mapram copy.mapram && echo the same`,
      );
  },
  dependent: { '--force': ['--html'] },
  async run([beforePath, afterPath], options, { signal, progress }) {
    const open = (path: unknown, offset: number | undefined): Promise<SavedVm> =>
      openSaved(String(path), {
        ...defined({ offset }),
        signal,
        onProgress: progress,
      });
    await using before = await open(beforePath, options.offsetBefore);
    await using after = await open(afterPath, options.offsetAfter);
    const comparison = await compare({
      ...{ before, after, readAll: options.readAll === true },
      ...{ signal, onProgress: progress },
    });
    if (options.html !== undefined) {
      await writeComparisonReport([before, after], comparison, {
        html: String(options.html),
        force: options.force === true,
        ...{ signal, onProgress: progress },
      });
    }
    const problems = [...problemsOf(before), ...problemsOf(after)];
    const verdict = verdictOf(comparison, problems, options.exitCode === true);
    return {
      fields: {
        ...{ before: before.path, after: after.path, ...comparison, problems },
        ...defined({ html: options.html === undefined ? undefined : String(options.html) }),
      },
      text: describe(comparison, before, after, problems, options.all === true),
      ...defined({
        failed: verdict === undefined ? undefined : `comparing ${before.path} with ${after.path}: ${verdict}`,
      }),
    };
  },
};

function problemsOf({ path, problems }: SavedVm): string[] {
  return problems.map((problem) => `${path}: ${problem}`);
}

function verdictOf(
  { equal }: Comparison,
  problems: readonly string[],
  exitCode: boolean,
): string | undefined {
  if (problems.length > 0) return problems.join('; ');
  return exitCode && !equal ? 'they differ' : undefined;
}

function describe(
  comparison: Comparison,
  before: SavedVm,
  after: SavedVm,
  problems: readonly string[],
  all: boolean,
): string {
  const { equal, machine, blocks, devices, unreadBytes } = comparison;
  const changed = (old: string, now: string) => (old === now ? old : `${old} → ${now}`);
  const summary: [string, string][] = [
    ['before', before.path],
    ['after', after.path],
    ['machine', changed(machine.before, machine.after)],
    ['memory', describeMemory(comparison)],
    ...(unreadBytes === 0 ? [] : [notRead(unreadBytes)]),
    ['devices', devices.length === 0 ? 'equal' : `${devices.length} differ`],
    ...problems.map((problem): [string, string] => ['problem', problem]),
  ];
  if (equal) return [properties(summary), '', 'No differences.'].join('\n');
  return [
    properties(summary),
    '',
    table([['block', 'size', 'different pages', ''], ...blocks.map(blockRow)], '<>>'),
    ...blocks.filter(({ ranges }) => ranges.length > 0).map((block) => describeRanges(block, all)),
    ...devices.map((device) => describeDevice(device, all)),
  ].join('\n');
}

/** A bad sector or a page that was changed later is found only by reading it. */
function notRead(bytes: number): [string, string] {
  return [
    'not read',
    `${formatSize(bytes)}, equal by the checksums recorded in both files; --read-all reads it, "mapram verify" checks it`,
  ];
}

/** Blocks that only one of them has are not compared with anything. */
function describeMemory({ blocks, differentPages, differentBytes }: Comparison): string {
  const unpaired = blocks.filter(({ status }) => status === 'only-before' || status === 'only-after').length;
  if (unpaired === blocks.length && unpaired > 0) return 'no block in common, so nothing was compared';
  const what =
    differentPages === 0
      ? 'equal'
      : `${plural(differentPages, 'page')} differ, ${formatSize(differentBytes)}`;
  return unpaired === 0 ? what : `${what}; ${plural(unpaired, 'block')} only in one of them`;
}

function blockRow(block: BlockComparison): string[] {
  const { idstr, status, usedLengthBefore, usedLengthAfter, differentPages } = block;
  const sizes = [usedLengthBefore, usedLengthAfter].filter((size) => size !== undefined).map(formatSize);
  const notes = { 'only-before': 'only in the first', 'only-after': 'only in the second' };
  return [
    idstr,
    [...new Set(sizes)].join(' → '),
    String(differentPages),
    status === 'only-before' || status === 'only-after' ? notes[status] : '',
  ];
}

function describeRanges({ idstr, ranges }: BlockComparison, all: boolean): string {
  const shown = all ? ranges : ranges.slice(0, MAX_SHOWN);
  const rest = ranges.length - shown.length;
  return [
    '',
    `${visibleLine(idstr)}, ${plural(ranges.length, 'range')}:`,
    ...shown.map((range) => `  ${describeRange(range)}`),
    ...(rest > 0 ? [`  … ${rest} more, --all shows them`] : []),
  ].join('\n');
}

function describeRange({ offset, length, guestAddress }: DifferentRange): string {
  const span = (start: number) => `0x${start.toString(16)}-0x${(start + length - 1).toString(16)}`;
  const place =
    guestAddress === undefined
      ? `offset ${span(offset)} of the block`
      : `guest address ${span(guestAddress)}`;
  return `${place}, ${formatSize(length)}`;
}

function describeDevice({ idstr, instanceId, status, changes }: DeviceComparison, all: boolean): string {
  const head = `\n${visibleLine(idstr)}  instance ${instanceId}`;
  if (status === 'only-before') return `${head}: only in the first`;
  if (status === 'only-after') return `${head}: only in the second`;
  const shown = all ? changes : changes.slice(0, MAX_SHOWN);
  const rest = changes.length - shown.length;
  return [
    head,
    ...shown.map((change) => `  ${describeChange(change)}`),
    ...(rest > 0 ? [`  … ${rest} more, --all shows them`] : []),
  ].join('\n');
}

function describeChange({ path, type, before, after }: FieldChange): string {
  const show = (value: LeafValue | undefined) =>
    value === undefined ? '(absent)' : formatValue(value, type);
  return visibleLine(`${path}: ${show(before)} → ${show(after)}`);
}
