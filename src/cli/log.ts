/** The structured log of a command: one record a line on standard error, for journals and collectors. */
import { visibleLine } from '../visible.js';
import { toJsonLine } from './json.js';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LogOptions {
  readonly command: string;
  readonly format: LogFormat;
  /** Records below it are left out. */
  readonly level: LogLevel;
  readonly write: (line: string) => void;
}

/** Writes a record where its level is wanted. Names, sizes and states only: never what a guest's memory holds. */
export type Log = (level: LogLevel, message: string, fields?: object) => void;

export function createLog({ command, format, level: least, write }: LogOptions): Log {
  return (level, message, fields = {}) => {
    if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(least)) return;
    const time = new Date().toISOString();
    write(
      format === 'json'
        ? toJsonLine({ time, level, command, pid: process.pid, message, ...fields })
        : visibleLine(
            [
              time,
              level.toUpperCase().padEnd(5),
              `${command}: ${message}`,
              ...Object.entries(fields).map(word),
            ].join(' '),
          ),
    );
  };
}

function word([key, value]: [string, unknown]): string {
  const text = typeof value === 'string' ? value : toJsonLine(value);
  return `${key}=${/[\s"=]/.test(text) || text === '' ? JSON.stringify(text) : text}`;
}

/** The members of a result that one line can take: numbers, switches and short texts. */
export function scalarsOf(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).filter(
      ([, value]) =>
        ['number', 'boolean', 'bigint'].includes(typeof value) ||
        (typeof value === 'string' && value.length <= 200 && !value.includes('\n')),
    ),
  );
}
