import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { cpuMismatch, hostCpuWarning, recordedCpu } from '../../../src/snapshot/checks/cpu-fit.js';

const x86 = (model: string, words: { [place: string]: number }, features: string[]) => ({
  type: `${model}-x86_64-cpu`,
  words,
  features,
});

describe('cpuMismatch (guests 3b)', () => {
  const saved = x86('max', { '1.0.ECX': 0x2001, '7.0.EBX': 0x20 }, ['avx2', 'cx16', 'pni']);

  test('accepts the same CPU, and another one with more', () => {
    assert.equal(cpuMismatch(saved, saved), undefined);
    const more = x86('Snowridge', { '1.0.ECX': 0x2003, '7.0.EBX': 0x20, '7.0.ECX': 4 }, []);
    assert.equal(cpuMismatch(saved, more), undefined);
  });

  test('names what is missing', () => {
    const less = x86('qemu64', { '1.0.ECX': 1 }, ['pni', 'svm']);
    assert.equal(
      cpuMismatch(saved, less),
      'the guest was saved on a CPU of type max-x86_64-cpu, the VM has qemu64-x86_64-cpu, which lacks avx2, cx16',
    );
  });

  test('goes by CPUID, and names its bits where QEMU has no names', () => {
    const less = x86('max', { '1.0.ECX': 1, '7.0.EBX': 0x20 }, saved.features);
    assert.match(
      cpuMismatch(saved, less) ?? '',
      /another one of that type, which lacks CPUID leaf 0x1 ECX bit 13$/,
    );
    assert.equal(cpuMismatch(saved, { ...saved, features: [] }), undefined);
  });

  test('PCOMMIT, which no processor has and QEMU has dropped, is not missed', () => {
    const saved = x86('max', { '7.0.EBX': (1 << 22) | 8 }, ['bmi1', 'pcommit']);
    assert.equal(cpuMismatch(saved, x86('max', { '7.0.EBX': 8 }, ['bmi1'])), undefined);
    assert.match(cpuMismatch(saved, x86('max', { '7.0.EBX': 0 }, [])) ?? '', /lacks bmi1$/);
  });

  test('compares words whose highest bit is set', () => {
    const high = x86('max', { '7.0.EDX': 0x8000_0000 }, []);
    assert.equal(cpuMismatch(high, high), undefined);
    assert.match(cpuMismatch(high, x86('max', {}, [])) ?? '', /leaf 0x7 EDX bit 31/);
  });

  test('goes by features and type elsewhere', () => {
    const arm = (model: string, features: string[]) => ({ type: `${model}-arm-cpu`, features });
    assert.equal(cpuMismatch(arm('max', ['sve']), arm('max', ['sve', 'sme'])), undefined);
    assert.match(cpuMismatch(arm('max', ['sve', 'sme']), arm('max', ['sve'])) ?? '', /lacks sme$/);
    assert.match(
      cpuMismatch(arm('cortex-a57', ['pmu']), arm('cortex-a72', ['pmu'])) ?? '',
      /saved on a CPU of type cortex-a57-arm-cpu, the VM has cortex-a72-arm-cpu$/,
    );
    const s390x = (model: string, features?: string[]) => ({
      type: `${model}-s390x-cpu`,
      ...(features === undefined ? {} : { features }),
    });
    assert.equal(cpuMismatch(s390x('gen15a', ['vx']), s390x('max', ['vx', 'nnpa'])), undefined);
    assert.match(cpuMismatch(s390x('gen15a', ['vx']), s390x('max')) ?? '', /the VM has max-s390x-cpu$/);
    const power = (version: string) => ({ type: `power${version}-powerpc64-cpu` });
    assert.equal(cpuMismatch(power('9_v2.2'), power('9_v2.2')), undefined);
    assert.match(
      cpuMismatch(power('9_v2.2'), power('10_v2.0')) ?? '',
      /the VM has power10_v2\.0-powerpc64-cpu$/,
    );
  });
});

describe('a CPU in a manifest', () => {
  const imageWith = (manifest: object): MappedRamImage => ({ manifest }) as MappedRamImage;

  test('is taken as it must be, or not at all', () => {
    const cpu = { type: 'max-x86_64-cpu', words: { '1.0.ECX': 1 }, features: ['pni'] };
    assert.deepEqual(recordedCpu(imageWith({ cpu })), cpu);
    assert.equal(recordedCpu(imageWith({})), undefined);
    assert.equal(recordedCpu(imageWith({ cpu: { type: 'x', words: { '1.0.ECX': -1 } } })), undefined);
    assert.equal(recordedCpu(imageWith({ cpu: { type: 'x'.repeat(300) } })), undefined);
  });

  test('of another host is warned of where the CPU is that of the host (first use B1)', () => {
    const launch = {
      program: '/usr/bin/qemu-system-x86_64',
      arguments: [],
      omitted: [],
      workingDirectory: '/',
      disks: [],
      hostId: 'of another host',
    };
    const image = imageWith({ launch });
    assert.match(hostCpuWarning(image, { type: 'host-x86_64-cpu' }) ?? '', /another host.*-cpu host/);
    assert.equal(hostCpuWarning(image, { type: 'max-x86_64-cpu' }), undefined);
    assert.equal(hostCpuWarning(imageWith({}), { type: 'host-x86_64-cpu' }), undefined);
  });
});
