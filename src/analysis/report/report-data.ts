/** What the page of a report shows, as it is embedded in it. Read by client.ts, which runs in the browser. */
export interface ReportData {
  readonly title: string;
  /** Name and value. */
  readonly facts: readonly (readonly [string, string])[];
  readonly problems: readonly string[];
  readonly blocks: ReportTable;
  readonly kinds: readonly ReportKind[];
  readonly map: ReportMap;
  /** `Devices`, or `Device fields that differ`. */
  readonly treeTitle: string;
  readonly tree: readonly TreeNode[];
}

export interface ReportTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface ReportKind {
  readonly says: string;
  readonly glyph: string;
  /** `#rrggbb`. */
  readonly colour: string;
  readonly size: string;
  /** How well it compresses, in words. */
  readonly compresses: string;
}

export interface ReportMap {
  readonly cellBytes: number;
  readonly regions: readonly ReportRegion[];
}

export interface ReportRegion {
  readonly idstr: string;
  /** Guest-physical address, or null. */
  readonly start: number | null;
  readonly blockOffset: number;
  readonly length: number;
  /** A byte a cell, the number of its kind; deflated, in base64. */
  readonly cells: string;
  /** In comparisons: a byte a cell, 1 where it differs; deflated, in base64. */
  readonly changed?: string;
}

/** A line of the tree: name, value, and what is below it. */
export type TreeNode = readonly [name: string, value: string, children?: readonly TreeNode[]];
