/** The files of a running VM that a load would write to, because they are RAM blocks of its machine: asked of its monitor. */

import path from 'node:path';
import { defined } from '../../defined.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { isFlashBlock, isMemoryBlock, type MemoryFile } from '../../launch/memory-files.js';

/** Those that can be told; a VM is not refused for want of them. */
export async function memoryFilesOf(vm: QemuVm): Promise<MemoryFile[]> {
  const found = await Promise.all([flashOf(vm), memoryOf(vm)]);
  return found.flat().filter((file) => path.isAbsolute(file.path));
}

interface BlockInfo {
  qdev?: string;
  inserted?: { file?: string; drv?: string; ro?: boolean };
}

async function flashOf(vm: QemuVm): Promise<MemoryFile[]> {
  const blocks = await askList<BlockInfo>(vm, 'query-block');
  return blocks.flatMap(({ qdev, inserted }) => {
    const unit = /\.flash(\d+)$/.exec(String(qdev))?.[1];
    if (unit === undefined || typeof inserted?.file !== 'string') return [];
    const { file, drv, ro = false } = inserted;
    return [
      {
        kind: 'flash' as const,
        path: file,
        offset: 0,
        readOnly: ro,
        isBlock: isFlashBlock(Number(unit)),
        ...defined({ format: typeof drv === 'string' ? drv : undefined }),
      },
    ];
  });
}

interface MemoryDevice {
  data?: { memdev?: string };
}

async function memoryOf(vm: QemuVm): Promise<MemoryFile[]> {
  const plugged = await askList<MemoryDevice>(vm, 'query-memory-devices');
  const backends = plugged.flatMap(({ data }) => (typeof data?.memdev === 'string' ? [data.memdev] : []));
  const files = await Promise.all(
    [...backends, ...(await sharedMemoryDevices(vm))].map((backend) => fileOf(vm, backend)),
  );
  return files.flatMap((file) => file ?? []);
}

/** QOM paths of the backends of ivshmem devices. */
async function sharedMemoryDevices(vm: QemuVm): Promise<string[]> {
  const found: string[] = [];
  for (const folder of ['/machine/peripheral', '/machine/peripheral-anon']) {
    const children = await askList<{ name: string; type: string }>(vm, 'qom-list', { path: folder });
    for (const { name, type } of children) {
      if (type !== 'child<ivshmem-plain>') continue;
      const property = { path: `${folder}/${name}`, property: 'memdev' };
      const backend = await ask<string>(vm, 'qom-get', property);
      if (typeof backend === 'string' && backend !== '') found.push(backend);
    }
  }
  return found;
}

/** The file behind a backend, where writes reach it. */
async function fileOf(vm: QemuVm, backend: string): Promise<MemoryFile | undefined> {
  const get = <T>(property: string) => ask<T>(vm, 'qom-get', { path: backend, property });
  const [file, share, readOnly, offset] = await Promise.all([
    get<string>('mem-path'),
    get<boolean>('share'),
    get<boolean>('readonly'),
    get<number>('offset'),
  ]);
  if (typeof file !== 'string' || share !== true) return undefined;
  return {
    kind: 'memory',
    path: file,
    offset: Number.isSafeInteger(offset) ? Number(offset) : 0,
    format: 'raw',
    readOnly: readOnly === true,
    isBlock: isMemoryBlock(path.basename(backend)),
  };
}

async function ask<T>(vm: QemuVm, command: string, args?: object): Promise<T | undefined> {
  try {
    return (await vm.client.execute(command, args)) as T;
  } catch {
    return undefined;
  }
}

/** The objects of an answer that should be a list of such; whoever answers may be anyone. */
async function askList<T extends object>(vm: QemuVm, command: string, args?: object): Promise<T[]> {
  const answer = await ask<unknown>(vm, command, args);
  return Array.isArray(answer) ? answer.filter((one) => typeof one === 'object' && one !== null) : [];
}
