import type { MigrationCapabilities } from './migration-capabilities.js';
import type { MigrationParameters } from './migration-parameters.js';

/**
 * Whether page channels open the file with O_DIRECT.
 *
 * The parameter alone is not enough: only `mapped-ram` aligns the pages in the file, and only `multifd` has channels
 * that move nothing but pages. In every other combination QEMU ignores it without a word, and so does mapram. This is
 * the only place that decides it.
 */
export function effectiveDirectIo(
  parameters: Pick<MigrationParameters, 'direct-io'>,
  capabilities: Pick<MigrationCapabilities, 'mapped-ram' | 'multifd'>,
): boolean {
  return parameters['direct-io'] && capabilities['mapped-ram'] && capabilities.multifd;
}
