/**
 * A client of QEMU's monitor protocol.
 *
 * @module mapram/qmp
 */

export {
  QmpClient,
  type QmpConnectOptions,
  type QmpEventsOptions,
  type QmpExecuteOptions,
  type QmpPatience,
} from './qmp-client.js';
export { QmpError, type QmpErrorClass } from './qmp-error.js';
