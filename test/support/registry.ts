import { spawnSync } from 'node:child_process';

/** Why nothing can be installed here, or false. */
export function registryProblem(): string | false {
  const { status } = spawnSync('npm', [
    'view',
    'koffi',
    'version',
    '--fetch-retries=0',
    '--fetch-timeout=10000',
  ]);
  return status === 0 ? false : 'no package registry can be reached';
}
