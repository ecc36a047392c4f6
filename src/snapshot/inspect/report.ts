import type { Comparison } from '../../analysis/compare.js';
import { type MemoryPicture, type PictureOptions, pictureOf } from '../../analysis/memory-picture.js';
import { changeNodes, deviceNodes } from '../../analysis/report/device-nodes.js';
import type { ReportTable } from '../../analysis/report/report-data.js';
import { reportKinds, reportMap } from '../../analysis/report/report-map.js';
import { reportPage } from '../../analysis/report/report-page.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { writeFully } from '../../io/file/positional-io.js';
import type { OperationOptions } from '../../progress.js';
import { formatSize } from '../../size.js';
import { writeConverted } from '../convert/converted-file.js';
import type { Inspection } from './inspect.js';

export interface ReportOptions extends OperationOptions {
  /** Path of the page. */
  readonly html: string;
  /** Replace an existing file. */
  readonly force?: boolean;
}

/**
 * Writes a page about one saved VM: a map of its memory, its blocks and devices.
 *
 * @throws MapramError `EXISTS`, `FORMAT`, `IO`, `CANCELLED`
 */
export async function writeInspectionReport(
  saved: SavedVm,
  inspection: Inspection,
  options: ReportOptions,
): Promise<void> {
  await writePage(options, await inspectionPage(saved, inspection, options));
}

/** The same page as text. */
export async function inspectionPage(
  saved: SavedVm,
  inspection: Inspection,
  options: PictureOptions = {},
): Promise<string> {
  const picture = await pictureOf(saved, options);
  const { machine, container, form, complete, fileBytes, allocatedBytes, manifest } = inspection;
  return reportPage({
    title: inspection.file,
    facts: [
      ['Machine', machine || 'not told by the file'],
      ['Form', `${form === 'stream' ? 'plain migration stream' : form}, ${container}`],
      ['Complete', complete ? 'yes' : 'no, the save did not finish or the file was cut short'],
      ['File', `${formatSize(fileBytes)}, ${formatSize(allocatedBytes)} on the disk`],
      ['Memory', formatSize(inspection.ramBytes)],
      ...(typeof manifest === 'object' && manifest !== null
        ? [['Manifest', Object.keys(manifest).join(', ')] as const]
        : []),
    ],
    problems: inspection.problems,
    blocks: blockTable(inspection),
    kinds: reportKinds(picture),
    map: await reportMap(picture),
    treeTitle: 'Devices',
    tree: deviceNodes(saved.devices),
  });
}

/** Writes a page about what differs between two: the map is that of the second. */
export async function writeComparisonReport(
  pair: readonly [before: SavedVm, after: SavedVm],
  comparison: Comparison,
  options: ReportOptions,
): Promise<void> {
  await writePage(options, await comparisonPage(pair, comparison, options));
}

/** The same page as text. */
export async function comparisonPage(
  [before, after]: readonly [before: SavedVm, after: SavedVm],
  comparison: Comparison,
  options: PictureOptions = {},
): Promise<string> {
  const picture: MemoryPicture = await pictureOf(after, options);
  const changed = (old: string, now: string) => (old === now ? old : `${old} → ${now}`);
  const { machine, differentPages, differentBytes, devices, blocks } = comparison;
  return await reportPage({
    title: `${before.path} → ${after.path}`,
    facts: [
      ['Before', before.path],
      ['After', after.path],
      ['Machine', changed(machine.before, machine.after)],
      ['Memory that differs', `${differentPages} pages, ${formatSize(differentBytes)}`],
      ['Devices that differ', String(devices.length)],
    ],
    problems: [before, after].flatMap(({ path, problems }) => problems.map((text) => `${path}: ${text}`)),
    blocks: {
      head: ['Block', 'Size before', 'Size after', 'Different pages'],
      rows: blocks.map(({ idstr, usedLengthBefore, usedLengthAfter, differentPages: pages }) => [
        idstr,
        usedLengthBefore === undefined ? 'absent' : formatSize(usedLengthBefore),
        usedLengthAfter === undefined ? 'absent' : formatSize(usedLengthAfter),
        String(pages),
      ]),
    },
    kinds: reportKinds(picture),
    map: await reportMap(picture, comparison),
    treeTitle: 'Device fields that differ',
    tree: changeNodes(devices),
  });
}

function blockTable({ blocks, form, guestRegions }: Inspection): ReportTable {
  const hex = (value: number) => `0x${value.toString(16)}`;
  const places = (idstr: string) =>
    guestRegions
      .filter((region) => region.idstr === idstr)
      .map(({ start, length }) => `${hex(start)}-${hex(start + length - 1)}`)
      .join(', ') || 'not known';
  const mapped = form === 'mapped-ram';
  return {
    head: ['Block', 'Size', 'Guest address', 'Pages written', ...(mapped ? ['Stale slots', 'Pages at'] : [])],
    rows: blocks.map(({ idstr, usedLength, normalPages, stalePages, pagesOffset }) => [
      idstr,
      formatSize(usedLength),
      places(idstr),
      String(normalPages),
      ...(mapped ? [String(stalePages ?? 'not known'), hex(pagesOffset ?? 0)] : []),
    ]),
  };
}

async function writePage(options: ReportOptions, page: string): Promise<void> {
  await writeConverted(options.html, options, async (fd) => writeFully(fd, Buffer.from(page), 0));
}
