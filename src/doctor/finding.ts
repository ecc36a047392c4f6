/** `good`: as it should be; `note`: worth knowing; `bad`: something will not work. */
export type FindingLevel = 'good' | 'note' | 'bad';

/** One thing that the doctor found out, in one line, with what to do about it where there is something to do. */
export interface Finding {
  readonly level: FindingLevel;
  /** What it is about: a QEMU's path, a directory, `node`, … */
  readonly subject: string;
  readonly message: string;
}
