/** A guest comes back on a CPU that has all that it had, or not unasked. */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { recordedCpu } from '../../src/snapshot/checks/cpu-fit.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, type QemuName } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { commandIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const LACKS = /saved on a CPU of type max-x86_64-cpu, the VM has qemu64-x86_64-cpu, which lacks .*\bavx2\b/;
const cpu = (...words: string[]) => ['-cpu', words.join(',')];

for (const qemu of ['10.0', '7.2'] satisfies QemuName[]) {
  describe(
    `the CPU of a guest saved by QEMU ${qemu} (guests 3b, first use B1)`,
    needs({ qemu, guest: 'tiny' }),
    () => {
      let folder: string;
      let file: string;
      let vm: TestVm;
      const options: VmOptions = { qemu, machine: 'pc', fillMiB: 4 };

      before(async () => {
        folder = temporaryFolder('cpu');
        file = path.join(folder, 'vm.mapram');
        vm = await startVm(options);
        await save({ vm: vm.qmpPath, file });
        await vm[Symbol.asyncDispose]();
      });
      after(() => {
        killProcessesWith(folder);
        rmSync(folder, { recursive: true, force: true });
      });

      async function restoreInto(extraArgs: string[], allowCpuMismatch = false) {
        await using restored = await startVm({ ...options, incoming: true, extraArgs });
        const warnings: string[] = [];
        const result = await restore({
          file,
          vm: restored.qmpPath,
          allowCpuMismatch,
          onWarning: (warning) => warnings.push(warning),
        });
        return { ...result, warnings };
      }

      test('is in the manifest: type, CPUID and names of features', async () => {
        await using image = await MappedRamImage.open(file);
        const { type, words, features } = recordedCpu(image) ?? {};
        assert.equal(type, 'max-x86_64-cpu');
        // SSE3 and SSSE3, by Intel's manual.
        assert.equal((words?.['1.0.ECX'] ?? 0) & 0x201, 0x201);
        for (const name of ['avx2', 'cx16', 'ssse3']) assert.ok(features?.includes(name), name);
        for (const name of ['vmx', 'avx512f']) assert.ok(!features?.includes(name), name);
      });

      test('must have what it had when the file is restored', async () => {
        await assert.rejects(restoreInto(cpu('qemu64')), failsWith('VM', LACKS));
        await assert.rejects(
          restoreInto(cpu('max', '-cx16')),
          failsWith('VM', /another one of that type, which lacks cx16;/),
        );
        assert.equal((await restoreInto(cpu('max', 'level=13'))).runState, 'running');
      });

      test('may lack something where that is allowed, with a warning', async () => {
        const { runState, warnings } = await restoreInto(cpu('qemu64'), true);
        assert.equal(runState, 'running');
        assert.match(warnings.join('\n'), LACKS);
      });

      if (qemu === '7.2') return;
      test('must have what it had when the file is resumed', async () => {
        const home = path.join(folder, 'home');
        mkdirSync(home);
        const command = [...commandIn(vm, home), ...cpu('qemu64')];
        const request = { file, command, qmp: path.join(home, 'own.qmp') };
        await assert.rejects(resume(request), failsWith('VM', LACKS));
        const warnings: string[] = [];
        const onWarning = (warning: string) => warnings.push(warning);
        await using resumed = await resume({ ...request, allowCpuMismatch: true, onWarning });
        assert.equal(resumed.facts.runState, 'running');
        assert.match(warnings.join('\n'), LACKS);
      });
    },
  );
}
