/**
 * A QMP and HMP monitor of your own, in front of a QEMU or of the builtin machine.
 *
 * @module mapram/monitor
 */

export type { MigrationBackend } from './backend.js';
export { BuiltinBackend, type BuiltinBackendOptions } from './builtin-backend.js';
export { Monitor, type MonitorEvent, type MonitorSetup } from './monitor.js';
export { type FrontOptions, monitorInFrontOf } from './open-monitor.js';
