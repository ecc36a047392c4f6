import { constants } from 'node:fs';
import { platformHasDirectIo } from '../../platform.js';

/** The flag to pass to `open`, 0 where the platform has none. */
export const O_DIRECT: number = platformHasDirectIo() ? constants.O_DIRECT : 0;
