import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { SaveMethod } from '../save-method.js';
import type { BaseSnapshot } from './base-snapshot.js';
import type { OutgoingSource } from './migration-source.js';
import { QemuCopiedSource } from './qemu-copied-source.js';
import { QemuSharedSource } from './qemu-shared-source.js';
import { QemuStreamSource, type QemuStreamSourceOptions } from './qemu-stream-source.js';

/**
 * The source for a save by the engine.
 *
 * @param base what `incremental` builds on
 */
export function qemuSource(
  vm: QemuVm,
  method: Exclude<SaveMethod, 'native'>,
  options: QemuStreamSourceOptions,
  base?: BaseSnapshot,
): OutgoingSource {
  if (method === 'incremental' && base) return new QemuCopiedSource(vm, base);
  return method === 'shared' ? new QemuSharedSource(vm, options) : new QemuStreamSource(vm, options);
}
