import { readFileSync } from 'node:fs';

/** Where a path is mounted. */
export interface Mount {
  readonly mountPoint: string;
  /** `ext4`, `xfs`, `tmpfs`, `nfs4`, … */
  readonly type: string;
  /** The device or export. */
  readonly source: string;
}

/**
 * The mount that holds an absolute path without links, by Linux' own table; undefined where there is none.
 *
 * A line of the table: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS…] - TYPE SOURCE SUPEROPTIONS`
 */
export function mountOf(realPath: string, table = readTable()): Mount | undefined {
  let best: Mount | undefined;
  for (const line of table.split('\n')) {
    const [head = '', tail = ''] = line.split(' - ');
    const mountPoint = unescapeOctal(head.split(' ')[4] ?? '');
    const [type = '', source = ''] = tail.split(' ');
    const under = realPath === mountPoint || realPath.startsWith(mountPoint === '/' ? '/' : `${mountPoint}/`);
    // Of two mounts on one point the later covers the earlier.
    if (mountPoint !== '' && under && mountPoint.length >= (best?.mountPoint.length ?? 0)) {
      best = { mountPoint, type, source: unescapeOctal(source) };
    }
  }
  return best;
}

function readTable(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}

/** The table writes blanks, tabs, line breaks and backslashes as octal numbers. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
