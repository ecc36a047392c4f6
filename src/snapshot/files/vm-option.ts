/** The option `vm`: which VM is saved, or loaded into. */
import * as v from 'valibot';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import { isOwnQemu, type QemuReference } from '../../guest/qemu/connect-vm.js';
import { QmpClient } from '../../qmp/qmp-client.js';

export type VmReference = QemuReference | BuiltinGuest;

export const vmOption = v.custom<VmReference>(
  (value) =>
    (typeof value === 'string' && value !== '') ||
    value instanceof BuiltinGuest ||
    value instanceof QmpClient ||
    isOwnQemu(value),
  'the path of a QMP socket, tcp:HOST:PORT, a QmpClient, a ResumedVm or a BuiltinGuest',
);
