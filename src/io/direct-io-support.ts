import { constants } from 'node:fs';

/**
 * Whether this build of Node knows O_DIRECT at all (Linux does, macOS does not). `platform` is for tests and
 * defaults to what `fs.constants` offers.
 */
export function directIoSupported(platform: { O_DIRECT?: number | undefined } = constants): boolean {
  return typeof platform.O_DIRECT === 'number' && platform.O_DIRECT !== 0;
}

/** The flag to pass to `open`, 0 where the platform has none. */
export const O_DIRECT: number = directIoSupported() ? constants.O_DIRECT : 0;
