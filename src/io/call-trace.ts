/**
 * With `mapram:syscalls` in the environment variable DEBUG, each system call is one line on standard error: those on files that Node.js makes
 * by what they are about, those of native.ts by their arguments.
 */
import { writeSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { visibleJson, visibleLine } from '../visible.js';

/** What a call is about: a descriptor and a place in its file, or names. */
export interface CallTarget {
  readonly fd?: number;
  readonly position?: number | null;
  readonly path?: string;
}

export const isTracing = asksFor('mapram:syscalls', process.env.DEBUG ?? '');

/** Whether a list such as `mapram:*,other` names `topic`. */
export function asksFor(topic: string, list: string): boolean {
  const patterns = list.split(/[\s,]+/).filter((pattern) => pattern !== '');
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? topic.startsWith(pattern.slice(0, -1)) : topic === pattern,
  );
}

/** Writes the line at once, whatever thread this is: threads that end lose what they have buffered. */
export function traceCall(call: string, length: number, { fd, position, path }: CallTarget): void {
  const words = [
    `mapram:syscalls thread ${threadId} ${call}`,
    ...(path === undefined ? [] : [path]),
    ...(fd === undefined ? [] : [`fd ${fd}`]),
    ...(length > 0 ? [`${length} bytes`] : []),
    ...(position === undefined || position === null ? [] : [`at ${position}`]),
  ];
  writeSync(2, `${visibleLine(words.join(' '))}\n`);
}

/** The same for a call with its C arguments, of which buffers are told by their size. */
export function traceNativeCall(
  call: string,
  args: readonly (number | bigint | string | ArrayBufferView | null)[],
): void {
  const shown = args.map((argument) => {
    if (ArrayBuffer.isView(argument)) return `[${argument.byteLength} bytes]`;
    if (typeof argument === 'bigint') return `0x${argument.toString(16)}`;
    return visibleJson(JSON.stringify(argument));
  });
  writeSync(2, `mapram:syscalls thread ${threadId} ${call}(${shown.join(', ')})\n`);
}
